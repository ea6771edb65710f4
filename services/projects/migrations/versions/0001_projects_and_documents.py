"""Projects, members, documents, blobs to be removed, and the tables every service has."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.migrations import create_backbone, id_column, isolate, moment, open_to_system, tenant_column

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_backbone()
    _create_projects()
    _create_documents()
    _create_blob_deletions()


def _create_projects() -> None:
    op.create_table(
        "projects",
        tenant_column(),
        id_column(),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("metadata", JSONB(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        moment("created_at"),
        moment("updated_at"),
        moment("deleted_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_projects"),
    )
    op.create_index("ix_projects_newest", "projects", ["tenant_id", sa.text("created_at DESC"), sa.text("id DESC")])
    isolate("projects")
    op.create_table(
        "project_members",
        tenant_column(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        moment("created_at"),
        moment("updated_at"),
        sa.PrimaryKeyConstraint("tenant_id", "project_id", "user_id", name="pk_project_members"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "project_id"],
            ["projects.tenant_id", "projects.id"],
            name="fk_project_members_tenant_id_project_id_projects",
        ),
        sa.CheckConstraint("role IN ('owner', 'editor', 'viewer')", name="ck_project_members_role"),
    )
    op.create_index("ix_project_members_user", "project_members", ["tenant_id", "user_id"])
    isolate("project_members")


def _create_documents() -> None:
    visible = sa.text("deleted_at IS NULL")
    op.create_table(
        "documents",
        tenant_column(),
        id_column(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("metadata", JSONB(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("duplicate_of", sa.Uuid()),
        sa.Column("job_id", sa.Uuid()),
        sa.Column("job_sequence", sa.BigInteger(), nullable=False),
        sa.Column("error_code", sa.Text()),
        sa.Column("error_reason", sa.Text()),
        sa.Column("chunk_count", sa.Integer()),
        moment("indexed_at", nullable=True),
        moment("created_at"),
        moment("updated_at"),
        moment("deleted_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_documents"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "project_id"],
            ["projects.tenant_id", "projects.id"],
            name="fk_documents_tenant_id_project_id_projects",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "duplicate_of"],
            ["documents.tenant_id", "documents.id"],
            name="fk_documents_tenant_id_duplicate_of_documents",
        ),
        sa.CheckConstraint(
            "status IN ('queued', 'indexing', 'indexed', 'failed', 'cancelled')", name="ck_documents_status"
        ),
    )
    op.create_index(
        "ix_documents_newest",
        "documents",
        ["tenant_id", "project_id", sa.text("created_at DESC"), sa.text("id DESC")],
        postgresql_where=visible,
    )
    op.create_index(
        "ix_documents_content", "documents", ["tenant_id", "project_id", "sha256"], postgresql_where=visible
    )
    op.create_index("ix_documents_duplicate_of", "documents", ["tenant_id", "duplicate_of"])
    isolate("documents")


def _create_blob_deletions() -> None:
    op.create_table(
        "blob_deletions",
        tenant_column(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        moment("next_attempt_at"),
        moment("created_at"),
        sa.PrimaryKeyConstraint("tenant_id", "document_id", "version", name="pk_blob_deletions"),
    )
    op.create_index("ix_blob_deletions_next_attempt_at", "blob_deletions", ["next_attempt_at"])
    isolate("blob_deletions", privileges="SELECT, INSERT")
    open_to_system("blob_deletions", "SELECT, UPDATE, DELETE")
