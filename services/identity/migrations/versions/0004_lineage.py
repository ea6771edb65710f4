"""What was passed on remembers from what: the key that made a key or an invitation, and who made a tenant."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("created_by_key", sa.Uuid()))
    op.create_foreign_key(
        "fk_api_keys_tenant_id_created_by_key_api_keys",
        "api_keys",
        "api_keys",
        ["tenant_id", "created_by_key"],
        ["tenant_id", "id"],
    )
    op.create_index("ix_api_keys_tenant_id_created_by_key", "api_keys", ["tenant_id", "created_by_key"])
    op.add_column("invitations", sa.Column("invited_by_key", sa.Uuid()))
    op.create_foreign_key(
        "fk_invitations_tenant_id_invited_by_key_api_keys",
        "invitations",
        "api_keys",
        ["tenant_id", "invited_by_key"],
        ["tenant_id", "id"],
    )
    op.create_index("ix_invitations_tenant_id_invited_by", "invitations", ["tenant_id", "invited_by"])
    op.add_column("tenants", sa.Column("created_by", sa.Uuid()))
    op.create_index("ix_tenants_created_by", "tenants", ["created_by"])
