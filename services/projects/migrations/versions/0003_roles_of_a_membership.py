"""A project role belongs to the membership of the tenant it was granted in."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    number = sa.Column("membership_number", sa.Integer(), nullable=False, server_default=sa.text("1"))
    op.add_column("project_members", number)
