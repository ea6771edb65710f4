"""Memberships of one user in one tenant are numbered, so that roles granted in an earlier one do not come back."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("memberships", sa.Column("number", sa.Integer(), nullable=False, server_default=sa.text("1")))
