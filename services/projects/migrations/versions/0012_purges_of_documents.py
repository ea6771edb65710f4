"""What is still held of deleted documents, and the receipts of what was removed.

Documents that are deleted by now have none: nobody will tell of them again.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from shared.migrations import isolate, moment, tenant_column

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "document_purges",
        tenant_column(),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("versions", sa.Integer(), nullable=False),
        sa.Column("blobs_waiting", sa.Integer(), nullable=False),
        sa.Column("blobs", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("bytes", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("shared_blobs", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("indexing", JSONB()),
        sa.Column("notifier", JSONB()),
        moment("created_at"),
        moment("purged_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "document_id", name="pk_document_purges"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "document_id"],
            ["documents.tenant_id", "documents.id"],
            name="fk_document_purges_tenant_id_document_id_documents",
        ),
    )
    isolate("document_purges")
    op.add_column("blob_deletions", sa.Column("size", sa.BigInteger(), nullable=False, server_default=sa.text("0")))
    op.add_column(
        "blob_deletions",
        sa.Column("deleted", ARRAY(sa.Uuid()), nullable=False, server_default=sa.text("'{}'")),
    )
    # Finished in the transaction that settles it for its documents, which is the tenant's.
    op.execute("GRANT DELETE ON blob_deletions TO projects")
