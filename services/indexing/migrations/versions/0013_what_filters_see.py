"""Filters see a document's name and language, and texts in NFC: the points of all documents are described again."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

# Due once processes of the version before, which would leave out the name, are gone.
_DESCRIBE = """
    INSERT INTO vector_changes (tenant_id, id, document_id, describe, due_at)
    SELECT tenant_id, document_id, document_id, true, now() + interval '10 minutes'
    FROM documents WHERE live_version IS NOT NULL
    ON CONFLICT (tenant_id, id) DO UPDATE SET describe = true, revision = uuidv7(), position = NULL
"""


def upgrade() -> None:
    op.add_column("documents", sa.Column("language", sa.Text()))
    # The owner is held to one tenant as everybody is; for this statement, in this transaction, it is not.
    for table in ("documents", "vector_changes"):
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute(_DESCRIBE)
    for table in ("documents", "vector_changes"):
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
