"""Feeds of projects and tenants, and who may see a project."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.migrations import create_access_projection, create_backbone, isolate, moment, tenant_column

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_backbone()
    create_access_projection()
    op.create_table(
        "feeds",
        tenant_column(),
        sa.Column("feed_id", sa.Uuid(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("first_kept_sequence", sa.BigInteger(), nullable=False, server_default=sa.text("1")),
        sa.PrimaryKeyConstraint("tenant_id", "feed_id", name="pk_feeds"),
    )
    isolate("feeds")
    op.create_table(
        "feed_events",
        tenant_column(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("tenant_sequence", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("data", JSONB(), nullable=False),
        sa.Column("traceparent", sa.Text()),
        moment("appended_at"),
        sa.PrimaryKeyConstraint("tenant_id", "project_id", "sequence", name="pk_feed_events"),
        sa.UniqueConstraint("tenant_id", "tenant_sequence", name="uq_feed_events_tenant_id_tenant_sequence"),
        sa.UniqueConstraint("tenant_id", "event_id", name="uq_feed_events_tenant_id_event_id"),
    )
    op.create_index("ix_feed_events_subject", "feed_events", ["tenant_id", "project_id", "subject_id", "revision"])
    isolate("feed_events")
