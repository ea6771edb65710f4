"""What is known of the end of deleted documents. Titles of documents deleted before are removed here, as later ones are
with the deletion."""

import sqlalchemy as sa
from alembic import op

from shared.migrations import isolate, tenant_column

revision = "0007"
down_revision = "0006"

_FORGET_TITLES = """
    UPDATE feed_events SET data = feed_events.data - 'title'
    FROM feed_events AS deletion
    WHERE deletion.tenant_id = feed_events.tenant_id AND deletion.project_id = feed_events.project_id
      AND deletion.subject_id = feed_events.subject_id AND deletion.type = 'document.deleted'
      AND feed_events.data ? 'title'
"""


def upgrade() -> None:
    op.create_table(
        "document_purges",
        tenant_column(),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("entries", sa.Integer()),
        sa.Column("index_purged", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("told", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.PrimaryKeyConstraint("tenant_id", "document_id", name="pk_document_purges"),
    )
    isolate("document_purges")
    # The owner of a table is bound by its policies as well, and belongs to no tenant.
    op.execute("ALTER TABLE feed_events NO FORCE ROW LEVEL SECURITY")
    op.execute(_FORGET_TITLES)
    op.execute("ALTER TABLE feed_events FORCE ROW LEVEL SECURITY")
