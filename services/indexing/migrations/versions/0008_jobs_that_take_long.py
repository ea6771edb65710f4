"""A job may be known to take long; the index by which jobs are chosen tells such jobs apart."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("long_running", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.drop_index("ix_jobs_waiting", table_name="jobs")
    op.create_index(
        "ix_jobs_waiting",
        "jobs",
        ["tenant_id", "lane", "long_running", "next_run_at"],
        postgresql_where=sa.text("state = 'queued'"),
    )
