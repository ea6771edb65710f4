"""A document says how long its chunks are, so that keyword search knows the average of its project."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_COUNT = """
    UPDATE documents SET indexed_chunks = counted.chunks, indexed_characters = counted.characters
    FROM (SELECT tenant_id, document_id, version, count(*) AS chunks, sum(length(text)) AS characters
          FROM chunks GROUP BY tenant_id, document_id, version) AS counted
    WHERE documents.tenant_id = counted.tenant_id AND documents.document_id = counted.document_id
      AND documents.live_version = counted.version
"""
_AVERAGE = """
    UPDATE documents SET average_length = average.length
    FROM (SELECT tenant_id, project_id, sum(indexed_characters)::float8 / sum(indexed_chunks) AS length
          FROM documents WHERE live_version IS NOT NULL GROUP BY tenant_id, project_id HAVING sum(indexed_chunks) > 0)
      AS average
    WHERE documents.tenant_id = average.tenant_id AND documents.project_id = average.project_id
"""


def upgrade() -> None:
    for name, kind in (("indexed_chunks", sa.Integer()), ("indexed_characters", sa.BigInteger())):
        op.add_column("documents", sa.Column(name, kind, nullable=False, server_default=sa.text("0")))
    op.add_column("documents", sa.Column("average_length", sa.Double()))
    # The owner is held to one tenant as everybody is; for this statement, in this transaction, it is not.
    for table in ("documents", "chunks"):
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute(_COUNT)
    op.execute(_AVERAGE)
    for table in ("documents", "chunks"):
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
