"""Resumable uploads, when each expires, and how many unfinished ones a tenant has."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.migrations import id_column, isolate, moment, open_to_system, tenant_column

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "uploads",
        tenant_column(),
        id_column(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("metadata", JSONB()),
        sa.Column("duplicates", sa.Text()),
        sa.Column("sent_metadata", sa.Text(), nullable=False),
        sa.Column("length", sa.BigInteger()),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("writer", sa.Uuid()),
        sa.Column("document_id", sa.Uuid()),
        sa.Column("created_by", sa.Uuid()),
        moment("created_at"),
        moment("expires_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_uploads"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "project_id"],
            ["projects.tenant_id", "projects.id"],
            name="fk_uploads_tenant_id_project_id_projects",
        ),
    )
    op.create_index("ix_uploads_project_id", "uploads", ["tenant_id", "project_id"])
    isolate("uploads")
    op.create_table(
        "upload_expiries",
        tenant_column(),
        sa.Column("upload_id", sa.Uuid(), nullable=False),
        moment("due_at"),
        sa.PrimaryKeyConstraint("tenant_id", "upload_id", name="pk_upload_expiries"),
    )
    op.create_index("ix_upload_expiries_due_at", "upload_expiries", ["due_at"])
    isolate("upload_expiries")
    open_to_system("upload_expiries", "SELECT, UPDATE")
    op.add_column("tenant_usage", sa.Column("uploads", sa.BigInteger(), nullable=False, server_default=sa.text("0")))
