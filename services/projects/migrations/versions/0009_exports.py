"""Exports of a project or a tenant."""

import sqlalchemy as sa
from alembic import op

from shared.migrations import id_column, isolate, moment, open_to_system, tenant_column

revision = "0009"
down_revision = "0008"

_COUNTS = ("documents_total", "documents_done", "documents_skipped", "bytes_total", "bytes_done")


def upgrade() -> None:
    op.create_table(
        "exports",
        tenant_column(),
        id_column(),
        sa.Column("project_id", sa.Uuid()),
        sa.Column("requested_by", sa.Uuid()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        sa.Column("size", sa.BigInteger()),
        sa.Column("sha256", sa.Text()),
        sa.Column("error_code", sa.Text()),
        moment("created_at"),
        moment("finished_at", nullable=True),
        moment("expires_at", nullable=True),
        moment("due_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_exports"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "project_id"],
            ["projects.tenant_id", "projects.id"],
            name="fk_exports_tenant_id_project_id_projects",
        ),
        sa.CheckConstraint("status IN ('queued', 'running', 'ready', 'failed', 'deleted')", name="ck_exports_status"),
    )
    op.create_index("ix_exports_due_at", "exports", ["due_at"])
    op.create_index("ix_exports_project", "exports", ["tenant_id", "project_id"])
    isolate("exports")
    open_to_system("exports", "SELECT, UPDATE")
