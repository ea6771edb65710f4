"""Passages say where they are and what they are searched with; documents have the title they give themselves."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("chunks", sa.Column("location", JSONB()))
    op.add_column("chunks", sa.Column("context", sa.Text()))
    op.add_column("documents", sa.Column("title", sa.Text()))
    op.add_column("jobs", sa.Column("title", sa.Text()))
    op.add_column("jobs", sa.Column("partly_read", JSONB()))
