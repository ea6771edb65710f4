"""A document has the title that it gives itself, and says if not all of it could be read."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("documents", sa.Column("title", sa.Text()))
    op.add_column("documents", sa.Column("partly_read", JSONB()))
