"""The projection of access knows in which membership of the tenant a role was granted."""

from shared.migrations import number_memberships_of_roles

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    number_memberships_of_roles()
