"""Points belong to generations, which say what they were made with; a project's search reads one of them."""

import sqlalchemy as sa
from alembic import op

from shared.migrations import isolate, moment, open_to_system, tenant_column

revision = "0012"
down_revision = "0011"

# What all points were made with until now. Spread over a day: each project is compared with its points once a day.
_FIRST = """
    INSERT INTO generations (tenant_id, project_id, number, highest, embedder, dimensions, analyzer, state,
                             activated_at, due_at)
    SELECT tenant_id, project_id, 1, 1, 'all-MiniLM-L6-v2-int8', 384, 'english-1', 'active', now(),
           now() + random() * interval '1 day'
    FROM (SELECT DISTINCT tenant_id, project_id FROM documents WHERE live_version IS NOT NULL) AS projects
"""


def upgrade() -> None:
    _create_generations()
    _create_generation_documents()
    op.create_index(
        "ix_documents_tenant_id_project_id_document_id", "documents", ["tenant_id", "project_id", "document_id"]
    )
    _adopt_points()


def _create_generations() -> None:
    op.create_table(
        "generations",
        tenant_column(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("highest", sa.Integer(), nullable=False),
        sa.Column("embedder", sa.Text(), nullable=False),
        sa.Column("dimensions", sa.Integer(), nullable=False),
        sa.Column("analyzer", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False, server_default=sa.text("'documents'")),
        sa.Column("position", sa.Uuid()),
        sa.Column("differed", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("done", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("total", sa.BigInteger()),
        sa.Column("error", sa.Text()),
        sa.Column("requested", sa.Text()),
        sa.Column("request_key", sa.Text()),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        moment("due_at"),
        moment("created_at"),
        moment("activated_at", nullable=True),
        moment("kept_until", nullable=True),
        moment("checked_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "project_id", "number", name="pk_generations"),
        sa.CheckConstraint("state IN ('building', 'active', 'kept', 'dropping')", name="ck_generations_state"),
        sa.CheckConstraint("phase IN ('documents', 'points')", name="ck_generations_phase"),
        sa.CheckConstraint("requested IN ('outdated', 'always', 'rollback')", name="ck_generations_requested"),
    )
    for state in ("active", "building"):
        op.create_index(
            f"uq_generations_{state}",
            "generations",
            ["tenant_id", "project_id"],
            unique=True,
            postgresql_where=sa.text(f"state = '{state}'"),
        )
    op.create_index("ix_generations_tenant_id_due_at", "generations", ["tenant_id", "due_at"])
    isolate("generations")
    open_to_system("generations", "SELECT, UPDATE")


def _create_generation_documents() -> None:
    op.create_table(
        "generation_documents",
        tenant_column(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Uuid(), nullable=False, server_default=sa.text("uuidv7()")),
        sa.Column("version", sa.Integer()),
        sa.Column("next_chunk", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        moment("due_at"),
        moment("created_at"),
        sa.PrimaryKeyConstraint("tenant_id", "project_id", "number", "document_id", name="pk_generation_documents"),
    )
    op.create_index("ix_generation_documents_tenant_id_due_at", "generation_documents", ["tenant_id", "due_at"])
    isolate("generation_documents")
    open_to_system("generation_documents", "SELECT, UPDATE")


def _adopt_points() -> None:
    """The owner is held to one tenant as everybody is; for this statement, in this transaction, it is not."""
    for table in ("documents", "generations"):
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute(_FIRST)
    for table in ("documents", "generations"):
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
