"""A job knows when its version was uploaded, for how long uploads take to be found."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("uploaded_at", sa.DateTime(timezone=True)))
