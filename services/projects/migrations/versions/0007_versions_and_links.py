"""Versions that were replaced, who uploaded each, documents that share another's content, and the blob of each.

Existing documents need no change: a null means version 1, in the blob that is named after its document.
"""

import sqlalchemy as sa
from alembic import op

from shared.migrations import isolate, moment, tenant_column

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    _extend_documents()
    op.create_table(
        "document_versions",
        tenant_column(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("blob_id", sa.Uuid(), nullable=False),
        sa.Column("uploaded_by", sa.Uuid()),
        moment("created_at"),
        sa.PrimaryKeyConstraint("tenant_id", "document_id", "number", name="pk_document_versions"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "document_id"],
            ["documents.tenant_id", "documents.id"],
            name="fk_document_versions_tenant_id_document_id_documents",
        ),
    )
    op.create_index("ix_document_versions_blob", "document_versions", ["tenant_id", "blob_id"])
    # Versions never change.
    isolate("document_versions", privileges="SELECT, INSERT, DELETE")
    # A deletion that is recorded again is due again.
    op.execute("GRANT UPDATE ON blob_deletions TO projects")


def _extend_documents() -> None:
    for column in (
        sa.Column("uploaded_by", sa.Uuid()),
        moment("uploaded_at", nullable=True),
        sa.Column("blob_id", sa.Uuid()),
        sa.Column("live_version", sa.Integer()),
        sa.Column("linked", sa.Boolean(), nullable=False, server_default=sa.text("false")),
    ):
        op.add_column("documents", column)
    op.create_index(
        "ix_documents_blob", "documents", ["tenant_id", "blob_id"], postgresql_where=sa.text("blob_id IS NOT NULL")
    )
    op.create_index(
        "ix_documents_name",
        "documents",
        ["tenant_id", "project_id", "name"],
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
