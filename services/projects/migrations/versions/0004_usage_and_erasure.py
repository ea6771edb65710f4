"""What a tenant uses, the tombstones of deleted tenants, and clean-up for tenants and members who left.

A tenant's counters begin with its first change; nothing is counted here.
"""

import sqlalchemy as sa
from alembic import op

from shared.migrations import isolate, moment, open_to_system, tenant_column

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "tenant_usage",
        tenant_column(),
        sa.Column("projects", sa.BigInteger(), nullable=False),
        sa.Column("documents", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        moment("deleted_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_tenant_usage"),
    )
    isolate("tenant_usage", privileges="SELECT, INSERT, UPDATE")
    op.create_table(
        "tenant_erasures",
        tenant_column(),
        moment("due_at"),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_tenant_erasures"),
    )
    op.create_table(
        "departures",
        tenant_column(),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("membership_number", sa.Integer(), nullable=False),
        moment("due_at"),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", name="pk_departures"),
    )
    for table in ("tenant_erasures", "departures"):
        op.create_index(f"ix_{table}_due_at", table, ["due_at"])
        isolate(table)
        open_to_system(table, "SELECT, UPDATE")
