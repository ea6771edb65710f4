"""Runs of agents, their journal and their queue; and the hash of each version, which citations name."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.migrations import id_column, isolate, moment, open_to_system, tenant_column

revision = "0010"
down_revision = "0009"


def _of_run(name: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", "run_id"], ["runs.tenant_id", "runs.id"], name=name, ondelete="CASCADE"
    )


def upgrade() -> None:
    op.add_column("jobs", sa.Column("sha256", sa.Text()))
    _create_runs()
    _create_run_steps()
    _create_run_documents()
    _create_run_turns()


def _create_runs() -> None:
    op.create_table(
        "runs",
        id_column(),
        tenant_column(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid()),
        sa.Column("principal", JSONB(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("agent_version", sa.Integer(), nullable=False),
        sa.Column("input", JSONB(), nullable=False),
        sa.Column("on_disconnect", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False, server_default=sa.text("'queued'")),
        _counter("events"),
        sa.Column("seconds_limit", sa.Float(), nullable=False),
        sa.Column("model_calls_limit", sa.Integer(), nullable=False),
        sa.Column("model_tokens_limit", sa.BigInteger(), nullable=False),
        sa.Column("model_calls", sa.Integer(), nullable=False, server_default=sa.text("0")),
        _counter("model_tokens"),
        _counter("input_tokens"),
        _counter("output_tokens"),
        sa.Column("output", JSONB()),
        sa.Column("exhausted", sa.Text()),
        sa.Column("error_code", sa.Text()),
        sa.Column("error_reason", sa.Text()),
        sa.Column("traceparent", sa.Text()),
        sa.Column("correlation_id", sa.Text()),
        moment("created_at"),
        moment("started_at", nullable=True),
        moment("finished_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_runs"),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'completed', 'incomplete', 'failed', 'cancelled')", name="ck_runs_status"
        ),
    )
    op.create_index(
        "ix_runs_tenant_id_project_id_created_at_id", "runs", ["tenant_id", "project_id", "created_at", "id"]
    )
    isolate("runs")


def _counter(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0"))


def _create_run_steps() -> None:
    op.create_table(
        "run_steps",
        tenant_column(),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("input_hash", sa.Text(), nullable=False),
        sa.Column("streamed", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("output", JSONB()),
        sa.Column("edge", sa.Text()),
        sa.Column("usage", JSONB()),
        sa.Column("fencing", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        moment("ended_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "run_id", "position", name="pk_run_steps"),
        _of_run("fk_run_steps_tenant_id_runs"),
    )
    isolate("run_steps")


def _create_run_documents() -> None:
    op.create_table(
        "run_documents",
        tenant_column(),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "document_id", "run_id", name="pk_run_documents"),
        _of_run("fk_run_documents_tenant_id_runs"),
    )
    op.create_index("ix_run_documents_tenant_id_run_id", "run_documents", ["tenant_id", "run_id"])
    isolate("run_documents", privileges="SELECT, INSERT, DELETE")


def _create_run_turns() -> None:
    op.create_table(
        "run_turns",
        tenant_column(),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        moment("due_at"),
        sa.PrimaryKeyConstraint("tenant_id", "run_id", name="pk_run_turns"),
    )
    op.create_index("ix_run_turns_due_at", "run_turns", ["due_at"])
    op.create_index(
        "ix_run_turns_unfinished", "run_turns", ["tenant_id", "due_at"], postgresql_where=sa.text("NOT ended")
    )
    isolate("run_turns")
    open_to_system("run_turns", "SELECT, UPDATE")
