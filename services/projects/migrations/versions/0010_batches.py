"""Batches of documents, and which batch each document belongs to."""

import sqlalchemy as sa
from alembic import op

from shared.migrations import id_column, isolate, moment, tenant_column

revision = "0010"
down_revision = "0009"

_COUNTS = ("queued", "indexing", "indexed", "failed", "cancelled", "deleted")


def upgrade() -> None:
    op.create_table(
        "batches",
        tenant_column(),
        id_column(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("expected", sa.Integer()),
        sa.Column("created_by", sa.Uuid()),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        moment("created_at"),
        moment("closed_at", nullable=True),
        moment("cancelled_at", nullable=True),
        moment("completed_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_batches"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "project_id"],
            ["projects.tenant_id", "projects.id"],
            name="fk_batches_tenant_id_project_id_projects",
        ),
    )
    op.create_index(
        "ix_batches_newest", "batches", ["tenant_id", "project_id", sa.text("created_at DESC"), sa.text("id DESC")]
    )
    op.create_index("ix_batches_open", "batches", ["tenant_id"], postgresql_where=sa.text("closed_at IS NULL"))
    isolate("batches")
    op.add_column("documents", sa.Column("batch_id", sa.Uuid()))
    op.create_foreign_key(
        "fk_documents_tenant_id_batch_id_batches",
        "documents",
        "batches",
        ["tenant_id", "batch_id"],
        ["tenant_id", "id"],
    )
    op.create_index(
        "ix_documents_batch",
        "documents",
        ["tenant_id", "batch_id", sa.text("created_at DESC"), sa.text("id DESC")],
        postgresql_where=sa.text("batch_id IS NOT NULL"),
    )
