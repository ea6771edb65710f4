"""Users, sessions, tenants, members, invitations, API keys and signing keys.

Two kinds of table. What belongs to a tenant is isolated like everywhere, and opened to the system role as far as
something is looked up before its tenant is known. What belongs to the installation (users and their accounts, sessions,
sign-ins under way, signing keys) is the system role's alone.

One exception, deliberately narrow: the runtime role may read the id, name and e-mail address of the bound tenant's
members. The policy asks `memberships`, whose own isolation applies, so lists of members are one statement that both
guards cut; reading the names through the system role would put that list behind a single hand-written filter.
"""

import sqlalchemy as sa
from alembic import op

from shared.migrations import create_backbone, id_column, isolate, moment, open_to_system, tenant_column

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_backbone()
    # Sessions belong to users: their revocation is announced, in its own transaction, for the tenant they were used in.
    op.execute("GRANT INSERT ON outbox TO identity_system")
    _create_users()
    _create_tenants()
    _create_api_keys()
    _create_invitations()
    _create_sign_in()
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("private_jwk", sa.Text(), nullable=False),
        moment("created_at"),
        sa.Column("activates_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kid", name="pk_signing_keys"),
    )
    open_to_system("signing_keys", "SELECT, INSERT, DELETE")


def _create_users() -> None:
    op.create_table(
        "users",
        id_column(),
        sa.Column("email", sa.Text()),
        sa.Column("email_verified", sa.Boolean(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        moment("created_at"),
        moment("updated_at"),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
    )
    op.create_index(
        "uq_users_verified_email", "users", ["email"], unique=True, postgresql_where=sa.text("email_verified")
    )
    open_to_system("users", "SELECT, INSERT, UPDATE")
    op.create_table(
        "linked_accounts",
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        moment("created_at"),
        sa.PrimaryKeyConstraint("issuer", "subject", name="pk_linked_accounts"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_linked_accounts_user_id_users", ondelete="CASCADE"),
    )
    op.create_index("ix_linked_accounts_user_id", "linked_accounts", ["user_id"])
    open_to_system("linked_accounts", "SELECT, INSERT")


def _create_tenants() -> None:
    op.create_table(
        "tenants",
        tenant_column(),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        moment("created_at"),
        moment("updated_at"),
        moment("deleted_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_tenants"),
    )
    isolate("tenants", privileges="SELECT, INSERT, UPDATE")
    open_to_system("tenants", "SELECT")
    op.create_table(
        "memberships",
        tenant_column(),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text()),
        sa.Column("revision", sa.Integer(), nullable=False),
        moment("created_at"),
        moment("updated_at"),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", name="pk_memberships"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="fk_memberships_tenant_id_tenants"),
        sa.CheckConstraint("role IN ('owner', 'admin', 'member')", name="ck_memberships_known_role"),
    )
    op.create_index("ix_memberships_user_id", "memberships", ["user_id"])
    isolate("memberships", privileges="SELECT, INSERT, UPDATE")
    open_to_system("memberships", "SELECT")
    op.execute(
        "CREATE POLICY members_of_the_tenant ON users FOR SELECT TO identity "
        "USING (id IN (SELECT user_id FROM memberships WHERE role IS NOT NULL))"
    )
    op.execute("GRANT SELECT (id, name, email) ON users TO identity")


def _create_api_keys() -> None:
    op.create_table(
        "api_keys",
        id_column(),
        tenant_column(),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("project_id", sa.Uuid()),
        sa.Column("revision", sa.Integer(), nullable=False),
        moment("created_at"),
        moment("expires_at", nullable=True),
        moment("last_used_at", nullable=True),
        moment("revoked_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_api_keys"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"],
            ["memberships.tenant_id", "memberships.user_id"],
            name="fk_api_keys_tenant_id_user_id_memberships",
        ),
    )
    op.create_index("ix_api_keys_key_hash", "api_keys", ["key_hash"])
    op.create_index("ix_api_keys_tenant_id_created_at_id", "api_keys", ["tenant_id", "created_at", "id"])
    op.create_index("ix_api_keys_tenant_id_user_id", "api_keys", ["tenant_id", "user_id"])
    isolate("api_keys", privileges="SELECT, INSERT, UPDATE")
    open_to_system("api_keys", "SELECT, UPDATE (last_used_at)")


def _create_invitations() -> None:
    op.create_table(
        "invitations",
        id_column(),
        tenant_column(),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("invited_by", sa.Uuid(), nullable=False),
        moment("created_at"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        moment("accepted_at", nullable=True),
        moment("revoked_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_invitations"),
        sa.CheckConstraint("role IN ('owner', 'admin', 'member')", name="ck_invitations_known_role"),
    )
    op.create_index("ix_invitations_token_hash", "invitations", ["token_hash"])
    op.create_index("ix_invitations_email", "invitations", ["email"])
    op.create_index("ix_invitations_tenant_id_created_at_id", "invitations", ["tenant_id", "created_at", "id"])
    isolate("invitations", privileges="SELECT, INSERT, UPDATE")
    open_to_system("invitations", "SELECT")


def _create_sign_in() -> None:
    op.create_table(
        "sessions",
        id_column(),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("active_tenant_id", sa.Uuid()),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("user_agent", sa.Text(), nullable=False),
        moment("created_at"),
        moment("last_seen_at"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        moment("revoked_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sessions_user_id_users", ondelete="CASCADE"),
    )
    op.create_index("ix_sessions_secret_hash", "sessions", ["secret_hash"], unique=True)
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    open_to_system("sessions", "SELECT, INSERT, UPDATE, DELETE")
    op.create_table(
        "login_states",
        sa.Column("state_hash", sa.LargeBinary(), nullable=False),
        sa.Column("browser_hash", sa.LargeBinary(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("code_verifier", sa.Text(), nullable=False),
        sa.Column("return_to", sa.Text(), nullable=False),
        moment("created_at"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("state_hash", name="pk_login_states"),
    )
    op.create_index("ix_login_states_expires_at", "login_states", ["expires_at"])
    open_to_system("login_states", "SELECT, INSERT, DELETE")
