"""The tombstones of deleted tenants, and which of them still have rows to be removed."""

import sqlalchemy as sa
from alembic import op

from shared.migrations import isolate, moment, open_to_system, tenant_column

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "deleted_tenants",
        tenant_column(),
        moment("due_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_deleted_tenants"),
    )
    op.create_index("ix_deleted_tenants_due_at", "deleted_tenants", ["due_at"])
    isolate("deleted_tenants", privileges="SELECT, INSERT, UPDATE")
    open_to_system("deleted_tenants", "SELECT, UPDATE")
