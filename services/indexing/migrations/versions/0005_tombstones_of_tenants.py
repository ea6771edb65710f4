"""Deleted tenants leave a tombstone, so that nothing told late about them is indexed."""

import sqlalchemy as sa
from alembic import op

from shared.migrations import isolate, moment, tenant_column

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "deleted_tenants",
        tenant_column(),
        moment("deleted_at"),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_deleted_tenants"),
    )
    isolate("deleted_tenants", privileges="SELECT, INSERT")
