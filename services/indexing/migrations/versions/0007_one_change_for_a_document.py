"""The vector store has one pending change for each document, worked off in pieces, tenants by turns."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column(
        "vector_changes", sa.Column("revision", sa.Uuid(), nullable=False, server_default=sa.text("uuidv7()"))
    )
    op.add_column("vector_changes", sa.Column("position", sa.Uuid()))
    op.create_index("ix_vector_changes_tenant_id_due_at", "vector_changes", ["tenant_id", "due_at"])
