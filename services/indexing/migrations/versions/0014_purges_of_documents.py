"""What was removed of a deleted document, and since when nothing is left of it."""

import sqlalchemy as sa
from alembic import op

from shared.migrations import moment

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    for name in ("removed_points", "removed_chunks", "removed_batches"):
        op.add_column("documents", sa.Column(name, sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("documents", moment("purged_at", nullable=True))
