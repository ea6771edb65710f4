"""Tables as Postgres describes them, and rows made to order for two tenants: what the SQL attacks work on."""

import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

CANARY = "canary-in-sql-7c2e"
Row = dict[str, Any]

_COLUMNS = """
SELECT n.nspname || '.' || c.relname AS table, a.attname AS name, format_type(a.atttypid, NULL) AS type,
       a.attnotnull AS required, a.attidentity <> '' AS generated,
       (SELECT substring(pg_get_constraintdef(k.oid) FROM '''([a-z_]+)''') FROM pg_constraint k
        WHERE k.contype = 'c' AND k.conrelid = c.oid AND k.conkey = ARRAY[a.attnum] LIMIT 1) AS allowed
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY($1) AND c.relkind IN ('r', 'p') AND c.relname <> 'alembic_version'
  AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY 1, a.attnum
"""
_KEYS = """
SELECT n.nspname || '.' || c.relname AS table, k.relname AS name,
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum = ANY (x.indkey::smallint[])) AS columns
FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class k ON k.oid = x.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY($1) AND x.indisunique AND c.relname <> 'alembic_version'
"""
_REFERENCES = """
SELECT f.conname AS name, n.nspname || '.' || c.relname AS table, n.nspname || '.' || r.relname AS target,
       (SELECT array_agg(a.attname::text ORDER BY o) FROM unnest(f.conkey) WITH ORDINALITY u(num, o)
        JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = u.num) AS columns,
       (SELECT array_agg(a.attname::text ORDER BY o) FROM unnest(f.confkey) WITH ORDINALITY u(num, o)
        JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = u.num) AS targets
FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_class r ON r.oid = f.confrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE f.contype = 'f' AND n.nspname = ANY($1)
"""


@dataclass(frozen=True, slots=True)
class Column:
    """`allowed` is one value that a check constraint on this column alone accepts."""

    name: str
    type: str
    required: bool
    generated: bool
    allowed: str | None


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key."""

    name: str
    columns: tuple[str, ...]
    target: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    columns: tuple[Column, ...]
    keys: Mapping[str, tuple[str, ...]]
    references: tuple[Reference, ...]

    @property
    def service(self) -> str:
        return self.name.partition(".")[0]

    @property
    def has_tenant(self) -> bool:
        return any(column.name == "tenant_id" for column in self.columns)

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


async def described(connection: Connection, schemas: Sequence[str]) -> dict[str, Table]:
    """Every table of the schemas, by `schema.name`; those that others refer to come first."""
    columns, keys, references = [await connection.fetch(query, schemas) for query in (_COLUMNS, _KEYS, _REFERENCES)]
    tables = {
        name: Table(
            name,
            tuple(
                Column(row["name"], row["type"], row["required"], row["generated"], row["allowed"])
                for row in columns
                if row["table"] == name
            ),
            {row["name"]: tuple(row["columns"]) for row in keys if row["table"] == name},
            tuple(
                Reference(row["name"], tuple(row["columns"]), row["target"], tuple(row["targets"]))
                for row in references
                if row["table"] == name
            ),
        )
        for name in {row["table"]: None for row in columns}
    }
    ordered: dict[str, Table] = {}
    while len(ordered) < len(tables):
        ready = [
            table
            for name, table in tables.items()
            if name not in ordered and all(key.target in ordered or key.target == name for key in table.references)
        ]
        assert ready, "foreign keys in a circle"
        ordered |= {table.name: table for table in ready}
    return ordered


def new_row(
    table: Table, tenant_id: uuid.UUID, planted: Mapping[str, Row], given: Mapping[str, Any] | None = None
) -> Row:
    """A row of the tenant that Postgres would take; it refers to the rows `planted` for the same tenant.

    Args:
        given: values by column, or by `schema.table.column`, which goes first.
    """
    row = {column.name: new_value(column) for column in table.columns if not column.generated}
    for name in row:
        for known in (name, f"{table.name}.{name}"):
            if given is not None and known in given:
                row[name] = given[known]
    if table.has_tenant:
        row["tenant_id"] = tenant_id
    for reference in table.references:
        for column, target in zip(reference.columns, reference.targets, strict=True):
            if reference.target == table.name:
                row[column] = row[column] if column == "tenant_id" else None
            else:
                row[column] = planted[reference.target][target]
    return row


def new_value(column: Column) -> Any:
    """A value nobody else has, where the type has room for it."""
    if column.allowed is not None:
        return column.allowed
    number = uuid.uuid4().int
    makers: Mapping[str, Any] = {
        "uuid": uuid.uuid4(),
        "uuid[]": [uuid.uuid4()],
        "text": f"{CANARY}-{number % 10**12}",
        "integer": number % 2**31,
        "bigint": number % 2**62,
        "double precision": float(number % 2**31),
        "boolean": True,
        # In the future, so that no worker or janitor takes the row.
        "timestamp with time zone": datetime.now(UTC) + timedelta(days=365, microseconds=number % 10**6),
        "jsonb": json.dumps({"canary": f"{CANARY}-{number % 10**12}"}),
        "bytea": f"{CANARY}-{number % 10**12}".encode(),
        "text[]": ["search"],
    }
    return makers[column.type]


async def insert(connection: Connection, table: Table, row: Row, tail: str = "", *, chosen: bool = False) -> str:
    """Insert a row; gives the command tag.

    Args:
        chosen: insert what the row has of generated values too, instead of having them generated.
    """
    statement, arguments = _insertion(table, row, tail, chosen=chosen)
    return await connection.execute(statement, *arguments)


def _insertion(table: Table, row: Row, tail: str, *, chosen: bool = False) -> tuple[str, list[Any]]:
    given = {name: value for name, value in row.items() if chosen or not table.column(name).generated}
    statement = fill(
        "INSERT INTO {table} ({names}) {overriding} VALUES ({places}) {tail}",
        table,
        names=", ".join(quoted(name) for name in given),
        overriding="OVERRIDING SYSTEM VALUE" if chosen else "",
        places=", ".join(f"${number}" for number in range(1, len(given) + 1)),
    )
    return statement.replace("{tail}", tail), list(given.values())


async def plant(
    admin: Connection, tables: Mapping[str, Table], tenant_id: uuid.UUID, given: Mapping[str, Any] | None = None
) -> dict[str, Row]:
    """A row of the tenant in every table, as the administrator; `given` as in `new_row`. Of generated columns the rows
    have what Postgres has made."""
    planted: dict[str, Row] = {}
    async with admin.transaction():
        # Rows that a trigger would make are planted like the others.
        await admin.execute("SET LOCAL session_replication_role = replica")
        for name, table in tables.items():
            row = new_row(table, tenant_id, planted, given)
            statement, arguments = _insertion(table, row, "RETURNING *")
            made = await admin.fetchrow(statement, *arguments)
            assert made is not None
            planted[name] = row | {column.name: made[column.name] for column in table.columns if column.generated}
    return planted


def fill(statement: str, table: Table, **parts: str) -> str:
    """A statement about a table. Names cannot be bound; these come from the catalogue."""
    for name, part in {"table": ".".join(quoted(part) for part in table.name.split(".")), **parts}.items():
        statement = statement.replace(f"{{{name}}}", part)
    return statement


def quoted(name: str) -> str:
    assert re.fullmatch(r"[a-z_][a-z0-9_]*", name), name
    return f'"{name}"'


async def rows_of(admin: Connection, tables: Iterable[Table], tenant_id: uuid.UUID) -> dict[str, list[str]]:
    """Everything the tables hold of a tenant."""
    statement = "SELECT to_jsonb(t)::text AS row FROM {table} AS t WHERE tenant_id = $1 ORDER BY 1"
    return {
        table.name: [row["row"] for row in await admin.fetch(fill(statement, table), tenant_id)]
        for table in tables
        if table.has_tenant
    }


async def uproot(admin: Connection, tables: Iterable[Table], tenants: Sequence[uuid.UUID]) -> None:
    """Remove everything of the tenants, in whatever order: other tests of this process share the database."""
    async with admin.transaction():
        await admin.execute("SET LOCAL session_replication_role = replica")
        for table in tables:
            if table.has_tenant:
                await admin.execute(fill("DELETE FROM {table} WHERE tenant_id = ANY($1)", table), tenants)
