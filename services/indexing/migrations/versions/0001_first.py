"""Documents as indexing knows them, jobs, chunks, and pending changes of the vector store."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.migrations import (
    create_access_projection,
    create_backbone,
    id_column,
    isolate,
    moment,
    open_to_system,
    tenant_column,
)

revision = "0001"
down_revision = None

_RUNNING = "state IN ('extracting', 'chunking', 'embedding', 'storing')"


def upgrade() -> None:
    create_backbone()
    create_access_projection()
    _create_documents()
    _create_chunks()
    _create_jobs()
    _create_vector_changes()


def downgrade() -> None:
    for table in ("vector_changes", "jobs", "embedded_batches", "chunks", "documents"):
        op.drop_table(table)
    for table in ("project_access", "known_projects", "dead_letters", "inbox", "relay_state", "outbox"):
        op.drop_table(table)


def _create_documents() -> None:
    op.create_table(
        "documents",
        tenant_column(),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("live_version", sa.Integer()),
        sa.Column("deleted", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("metadata", JSONB(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "document_id", name="pk_documents"),
    )
    isolate("documents")


def _create_chunks() -> None:
    op.create_table(
        "chunks",
        tenant_column(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("chunk_index", sa.Integer(), nullable=False),
        sa.Column("start_offset", sa.Integer(), nullable=False),
        sa.Column("end_offset", sa.Integer(), nullable=False),
        sa.Column("page", sa.Integer()),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "document_id", "version", "chunk_index", name="pk_chunks"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "document_id"],
            ["documents.tenant_id", "documents.document_id"],
            name="fk_chunks_tenant_id_document_id_documents",
        ),
    )
    isolate("chunks")
    op.create_table(
        "embedded_batches",
        tenant_column(),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("first_index", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("vectors", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "document_id", "version", "first_index", name="pk_embedded_batches"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "document_id"],
            ["documents.tenant_id", "documents.document_id"],
            name="fk_embedded_batches_tenant_id_document_id_documents",
        ),
    )
    isolate("embedded_batches")


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        id_column(),
        tenant_column(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("state", sa.Text(), nullable=False, server_default=sa.text("'queued'")),
        sa.Column("revision", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("request_sequence", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("fencing_token", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("lease_owner", sa.Text()),
        moment("lease_expires_at", nullable=True),
        moment("next_run_at"),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("deferrals", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("chunk_count", sa.Integer()),
        sa.Column("progress_done", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("progress_total", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("error_code", sa.Text()),
        sa.Column("error_reason", sa.Text()),
        sa.Column("evidence", JSONB()),
        sa.Column("traceparent", sa.Text()),
        sa.Column("correlation_id", sa.Text()),
        moment("started_at", nullable=True),
        moment("finished_at", nullable=True),
        moment("created_at"),
        moment("updated_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_jobs"),
        sa.UniqueConstraint("tenant_id", "document_id", "version", name="uq_jobs_tenant_id_document_id_version"),
        sa.CheckConstraint("lane IN ('interactive', 'bulk')", name="ck_jobs_lane"),
        sa.CheckConstraint(
            f"state IN ('queued', 'indexed', 'failed', 'cancelled') OR {_RUNNING}", name="ck_jobs_state"
        ),
    )
    op.create_index(
        "ix_jobs_waiting", "jobs", ["tenant_id", "lane", "next_run_at"], postgresql_where=sa.text("state = 'queued'")
    )
    op.create_index("ix_jobs_leased", "jobs", ["lease_expires_at"], postgresql_where=sa.text(_RUNNING))
    op.create_index(
        "ix_jobs_tenant_id_project_id_created_at_id", "jobs", ["tenant_id", "project_id", "created_at", "id"]
    )
    isolate("jobs")
    open_to_system("jobs", "SELECT, UPDATE")


def _create_vector_changes() -> None:
    op.create_table(
        "vector_changes",
        id_column(),
        tenant_column(),
        sa.Column("document_id", sa.Uuid()),
        sa.Column("describe", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        moment("due_at"),
        moment("created_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_vector_changes"),
    )
    op.create_index("ix_vector_changes_due_at", "vector_changes", ["due_at"])
    isolate("vector_changes")
    open_to_system("vector_changes", "SELECT, UPDATE")
