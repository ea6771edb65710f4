"""How many documents of each status a project has, and their bytes: kept by a trigger, read instead of counted.

The trigger is deferred to the commit, so that the row of a project, which all its documents share, is locked last and
for an instant. Existing documents are counted here.
"""

import sqlalchemy as sa
from alembic import op

from shared.migrations import isolate, tenant_column

revision = "0011"
down_revision = "0010"

_STATUSES = ("queued", "indexing", "indexed", "failed", "cancelled")
_COLUMNS = ", ".join((*_STATUSES, "bytes"))


def upgrade() -> None:
    op.create_table(
        "project_contents",
        tenant_column(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in (*_STATUSES, "bytes")),
        sa.PrimaryKeyConstraint("tenant_id", "project_id", name="pk_project_contents"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "project_id"],
            ["projects.tenant_id", "projects.id"],
            name="fk_project_contents_tenant_id_project_id_projects",
        ),
    )
    counted = ", ".join(f"count(*) FILTER (WHERE status = '{status}')" for status in _STATUSES)
    # The owner of a table is bound by its policies as well, and belongs to no tenant.
    op.execute("ALTER TABLE documents NO FORCE ROW LEVEL SECURITY")
    op.execute(
        f"INSERT INTO project_contents (tenant_id, project_id, {_COLUMNS}) "  # noqa: S608  # names of this file
        f"SELECT tenant_id, project_id, {counted}, sum(size) FROM documents "
        "WHERE deleted_at IS NULL GROUP BY tenant_id, project_id"
    )
    op.execute("ALTER TABLE documents FORCE ROW LEVEL SECURITY")
    isolate("project_contents")
    _create_trigger()


def _create_trigger() -> None:
    changes = [_change(f"status = '{status}'", "1") for status in _STATUSES] + [_change("true", "{row}.size")]
    added = ", ".join(f"{name} = known.{name} + excluded.{name}" for name in (*_STATUSES, "bytes"))
    op.execute(
        f"""
        CREATE FUNCTION count_contents() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' AND (OLD.status, OLD.size, OLD.deleted_at)
                IS NOT DISTINCT FROM (NEW.status, NEW.size, NEW.deleted_at) THEN
                RETURN NULL;
            END IF;
            INSERT INTO projects.project_contents AS known (tenant_id, project_id, {_COLUMNS})
            VALUES (
                coalesce(NEW.tenant_id, OLD.tenant_id), coalesce(NEW.project_id, OLD.project_id), {", ".join(changes)}
            )
            ON CONFLICT (tenant_id, project_id) DO UPDATE SET {added};
            RETURN NULL;
        END
        $$
        """  # noqa: S608  # names of this file
    )
    op.execute(
        "CREATE CONSTRAINT TRIGGER count_contents AFTER INSERT OR DELETE OR UPDATE OF status, size, deleted_at "
        "ON documents DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION count_contents()"
    )


def _change(condition: str, counted: str) -> str:
    """What a visible row that meets the condition counts, after the change less before it; a missing row is null."""
    after, before = (
        f"coalesce(CASE WHEN {row}.deleted_at IS NULL AND {condition.replace('status', f'{row}.status')} "
        f"THEN {counted.format(row=row)} END, 0)"
        for row in ("NEW", "OLD")
    )
    return f"{after} - {before}"
