"""What must hold of every table, as findings: nothing but names of what does not keep to it."""

from collections.abc import Mapping, Sequence
from typing import Final

from shared.migrations import SERVICES_WITH_SCHEMA
from tests.isolation.registry import OPEN_KEYS, TABLES
from tests.isolation.tables import Connection, Table, described

# Foreign keys without the tenant among their columns, and why nobody can ask through them.
OPEN_REFERENCES: Final[Mapping[str, str]] = {
    "fk_linked_accounts_user_id_users": "between tables of the installation; the runtime role may use neither",
    "fk_sessions_user_id_users": "between tables of the installation; the runtime role may use neither",
}
_GUARDED: Final = "tenant_id = ( SELECT (NULLIF(current_setting('app.tenant_id'"
_SECURITY: Final = """
SELECT n.nspname || '.' || c.relname AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY($1) AND c.relkind IN ('r', 'p') AND c.relname <> 'alembic_version'
"""
_POLICIES: Final = """
SELECT schemaname || '.' || tablename AS name, qual, with_check FROM pg_policies
WHERE schemaname = ANY($1) AND roles::text[] = ARRAY[schemaname::text]
"""


async def findings(connection: Connection, schemas: Sequence[str] = SERVICES_WITH_SCHEMA) -> list[str]:
    """A line for each thing that would let a table out of isolation."""
    tables = await described(connection, schemas)
    return [
        *_unregistered(tables),
        *await _without_security(connection, schemas),
        *await _without_policy(connection, schemas, tables),
        *(line for table in tables.values() for line in _open_keys(table)),
    ]


def _unregistered(tables: Mapping[str, Table]) -> list[str]:
    return [f"{name}: not in the registry of stores" for name in sorted(set(tables) - set(TABLES))] + [
        f"{name}: in the registry, and nowhere else" for name in sorted(set(TABLES) - set(tables))
    ]


async def _without_security(connection: Connection, schemas: Sequence[str]) -> list[str]:
    return [
        f"{row['name']}: row security is not {'forced' if row['enabled'] else 'on'}"
        for row in await connection.fetch(_SECURITY, schemas)
        if not (row["enabled"] and row["forced"])
    ]


async def _without_policy(connection: Connection, schemas: Sequence[str], tables: Mapping[str, Table]) -> list[str]:
    """Whatever the runtime role may write is held to the bound tenant, on reading and on writing."""
    found = []
    held = {
        row["name"]
        for row in await connection.fetch(_POLICIES, schemas)
        if _GUARDED in (row["qual"] or "") and _GUARDED in (row["with_check"] or "")
    }
    for name, table in tables.items():
        may = await connection.fetchval(
            "SELECT has_table_privilege($1, $2, 'SELECT, INSERT, UPDATE, DELETE')", table.service, name
        )
        if not may:
            continue
        if not table.has_tenant or not table.column("tenant_id").required:
            found.append(f"{name}: has no tenant_id")
        if name not in held:
            found.append(f"{name}: has no policy")
    return found


def _open_keys(table: Table) -> list[str]:
    """Unique keys and foreign keys that tell of other tenants' rows by a conflict."""
    if table.name in TABLES and "INSERT" not in TABLES[table.name].runtime:
        keys: list[str] = []
    else:
        keys = [name for name, columns in table.keys.items() if "tenant_id" not in columns and name not in OPEN_KEYS]
    references = [
        reference.name
        for reference in table.references
        if not ("tenant_id" in reference.columns and "tenant_id" in reference.targets)
        and reference.name not in OPEN_REFERENCES
    ]
    return [f"{table.name}: {key} is without the tenant" for key in (*keys, *references)]
