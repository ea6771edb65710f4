"""Feeds of the runs of agents: each is numbered by the run itself."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.migrations import isolate, moment, open_to_system, tenant_column

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "run_feeds",
        tenant_column(),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("trimmed", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        moment("due_at"),
        sa.PrimaryKeyConstraint("tenant_id", "run_id", name="pk_run_feeds"),
    )
    op.create_index("ix_run_feeds_due_at", "run_feeds", ["due_at"])
    isolate("run_feeds")
    open_to_system("run_feeds", "SELECT, UPDATE")
    op.create_table(
        "run_events",
        tenant_column(),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", JSONB(), nullable=False),
        sa.Column("traceparent", sa.Text()),
        sa.PrimaryKeyConstraint("tenant_id", "run_id", "sequence", name="pk_run_events"),
    )
    isolate("run_events", privileges="SELECT, INSERT, DELETE")
