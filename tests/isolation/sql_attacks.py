"""What somebody tries who runs SQL of their choice in a transaction that is bound to their own tenant.

`findings` gives a line for each attempt that saw, changed, planted or inferred something of another tenant. Postgres
may refuse an attempt or answer as if the other tenant's rows did not exist; anything else is a finding.

Not tried: binding the transaction to the other tenant. Whoever may run any SQL as a runtime role may do that; what
keeps a request from it is that it can run none (no SQL is built from strings) and that `shared.tenancy` binds.
"""

import io
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from tests.isolation.tables import Connection, Reference, Row, Table, fill, insert, new_row, new_value, quoted

REFUSED: Final = (asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError)
CLOSED: Final = frozenset(error.sqlstate for error in REFUSED)
# A constraint speaks only once the row was reached, or let in.
REACHED: Final = asyncpg.IntegrityConstraintViolationError

# Each answers how many of the other tenant's rows it found. {key} names one of them, {foreign} their tenant.
READS: Final = {
    "by key": "SELECT count(*) FROM {table} WHERE {key}",
    "by key, locked": "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {key} FOR UPDATE) AS found",
    "by existence": "SELECT CASE WHEN EXISTS (SELECT FROM {table} WHERE {key}) THEN 1 ELSE 0 END",
    "through a common table expression": "WITH found AS MATERIALIZED (SELECT * FROM {table}) "
    "SELECT count(*) FROM found WHERE {key}",
    "through a join with itself": "SELECT count(*) FROM {table} AS a CROSS JOIN LATERAL "
    "(SELECT * FROM {table} WHERE {key} OFFSET 0) AS b",
    "through a set operation": "SELECT count(*) FROM (SELECT * FROM {table} EXCEPT ALL "
    "SELECT * FROM {table} WHERE false) AS found WHERE {key}",
    "through a sample": "SELECT count(*) FROM {table} TABLESAMPLE SYSTEM (100) WHERE {key}",
    "through a function of the whole row": "SELECT count(*) FROM {table} AS t WHERE {key} AND t::text <> ''",
}
READS_OF_TENANT: Final = {
    "by tenant": "SELECT count(*) FROM {table} WHERE tenant_id = $1",
    "by a condition that always holds": "SELECT count(*) FILTER (WHERE tenant_id = $1) FROM {table} WHERE true",
    "by not being one's own": "SELECT count(*) FROM {table} WHERE tenant_id IS DISTINCT FROM "
    "current_setting('app.tenant_id')::uuid AND tenant_id = $1",
}
CHANGES: Final = {
    "update": "UPDATE {table} SET {free} = {free} WHERE {key}",
    "update from a join": "UPDATE {table} SET {free} = {table}.{free} FROM {table} AS other WHERE {qualified}",
    "update of all": "UPDATE {table} SET {free} = {free} WHERE {key} OR false",
    "delete": "DELETE FROM {table} WHERE {key}",
    "delete by merge": "MERGE INTO {table} USING (SELECT 1) AS one ON {qualified} WHEN MATCHED THEN DELETE",
    "update by merge": "MERGE INTO {table} USING (SELECT 1) AS one ON {qualified} "
    "WHEN MATCHED THEN UPDATE SET {free} = {table}.{free}",
}


@dataclass(frozen=True, slots=True)
class Ground:
    """One table, a row of each tenant in it, and everything else that was planted for the two."""

    table: Table
    own: dict[str, Row]
    foreign: dict[str, Row]
    tenants: tuple[uuid.UUID, uuid.UUID]
    listed_keys: frozenset[str]

    @property
    def key(self) -> dict[str, Any]:
        """The other tenant's row by its primary key."""
        row = self.foreign[self.table.name]
        primary = next(columns for name, columns in self.table.keys.items() if name.startswith("pk_"))
        return {column: row[column] for column in primary}


@asynccontextmanager
async def bound(connection: Connection, tenant_id: object) -> AsyncIterator[None]:
    """A transaction bound to a tenant, of which nothing stays."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("SELECT set_config('app.tenant_id', $1, true)", str(tenant_id))
        yield
    finally:
        await transaction.rollback()


async def findings(connection: Connection, ground: Ground) -> list[str]:
    """Everything that should not have been possible."""
    found = [*await reading(connection, ground), *await changing(connection, ground)]
    if ground.table.has_tenant:
        found += [*await planting(connection, ground), *await inferring(connection, ground)]
    return found


async def reading(connection: Connection, ground: Ground) -> list[str]:
    found = []
    for name, template in READS.items():
        statement, arguments = _by_key(ground, template)
        if await _count(connection, ground, statement, *arguments):
            found.append(f"read {name}")
    for name, template in READS_OF_TENANT.items() if ground.table.has_tenant else ():
        if await _count(connection, ground, fill(template, ground.table), ground.tenants[1]):
            found.append(f"read {name}")
    if await _copied_out(connection, ground):
        found.append("read by COPY")
    return found


async def changing(connection: Connection, ground: Ground) -> list[str]:
    found = []
    for name, template in CHANGES.items():
        statement, arguments = _by_key(ground, template)
        if await _affected(connection, ground, statement, *arguments):
            found.append(name)
    if ground.table.has_tenant:
        statement, arguments = _by_key(ground, "UPDATE {table} SET tenant_id = {own} WHERE {key}", first=1)
        if await _affected(connection, ground, statement.replace("{own}", "$1"), ground.tenants[0], *arguments):
            found.append("update that takes a row over")
    if await _affected(connection, ground, fill("TRUNCATE {table}", ground.table)):
        found.append("truncate")
    return found


async def planting(connection: Connection, ground: Ground) -> list[str]:
    """Rows under the other tenant, by every way a row gets into a table."""
    table, existing = ground.table, ground.foreign[ground.table.name]
    fresh = new_row(table, ground.tenants[1], ground.foreign)
    touch = fill("ON CONFLICT ({columns}) DO UPDATE SET {free} = EXCLUDED.{free}", table, **_upsert(ground))
    found = []
    for name, row, tail in (
        ("insert", fresh, ""),
        ("insert, conflicts ignored", fresh, "ON CONFLICT DO NOTHING"),
        ("insert of an existing row, conflicts ignored", existing, "ON CONFLICT DO NOTHING"),
        ("insert of an existing row, conflicts updated", existing, touch),
    ):
        async with bound(connection, ground.tenants[0]):
            try:
                await insert(connection, table, row, tail)
            except REFUSED:
                continue
            except REACHED:
                pass
        found.append(f"{name}: not refused")
    if await _copied_in(connection, ground, fresh):
        found.append("copied in")
    statement, arguments = _by_key(ground, "UPDATE {table} SET tenant_id = {own} WHERE {key}", first=1, own=True)
    async with bound(connection, ground.tenants[0]):
        try:
            await connection.execute(statement.replace("{own}", "$1"), ground.tenants[1], *arguments)
        except REFUSED:
            return found
        except REACHED:
            pass
    return [*found, "own row given away: not refused"]


async def inferring(connection: Connection, ground: Ground) -> list[str]:
    """Whether a row that only the other tenant has makes a difference to what one's own insert is told."""
    table, existing = ground.table, ground.foreign[ground.table.name]
    found = []
    for name, columns in table.keys.items():
        chosen = [column for column in columns if column != "tenant_id" and not table.column(column).generated]
        if name in ground.listed_keys or not chosen:
            continue
        for tail in ("", "ON CONFLICT DO NOTHING"):
            taken = {**_own_row(ground), **{column: existing[column] for column in chosen}}
            free = {**_own_row(ground), **{column: new_value(table.column(column)) for column in chosen}}
            told = [await _told(connection, ground, row, tail) for row in (taken, free)]
            if told[0] != told[1]:
                found.append(f"inferred by {name}: {told}")
    for column in [column for column in table.columns if column.generated]:
        # The highest number of all would stand for what is yet to come; a taken one tells that it is taken.
        for kind, value in (("a taken", existing[column.name]), ("the highest", 2**63 - 1)):
            if await _told(connection, ground, {**_own_row(ground), column.name: value}, "", chosen=True) not in CLOSED:
                found.append(f"chose {kind} value of {column.name}, which is to be generated")
    for reference in table.references:
        told = [await _told(connection, ground, _referring(ground, reference, taken), "") for taken in (True, False)]
        if told[0] != told[1]:
            found.append(f"inferred by {reference.name}: {told}")
    return found


def _own_row(ground: Ground) -> Row:
    return new_row(ground.table, ground.tenants[0], ground.own)


def _referring(ground: Ground, reference: Reference, taken: bool) -> Row:
    """An own row that refers to what the other tenant has, or to nothing at all."""
    row = _own_row(ground)
    for column, target in zip(reference.columns, reference.targets, strict=True):
        if column != "tenant_id":
            other = ground.foreign[reference.target][target]
            row[column] = other if taken else new_value(ground.table.column(column))
    return row


def _upsert(ground: Ground) -> dict[str, str]:
    return {"columns": ", ".join(map(quoted, ground.key)), "free": quoted(_free(ground.table))}


def _free(table: Table) -> str:
    """A column outside of every key; a key's where there is no other."""
    held = {column for columns in table.keys.values() for column in columns}
    held |= {column for reference in table.references for column in reference.columns}
    settable = [column.name for column in table.columns if not column.generated]
    return next((name for name in settable if name not in held), settable[-1])


def _by_key(ground: Ground, template: str, *, first: int = 0, own: bool = False) -> tuple[str, Sequence[Any]]:
    table = ground.table
    row = (ground.own if own else ground.foreign)[table.name]
    columns = list(ground.key)
    numbered = [(quoted(column), f"${number}") for number, column in enumerate(columns, start=first + 1)]
    statement = fill(
        template,
        table,
        key=" AND ".join(f"{column} = {place}" for column, place in numbered),
        qualified=" AND ".join(fill(f"{{table}}.{column} = {place}", table) for column, place in numbered),
        free=quoted(_free(table)),
    )
    return statement, [row[column] for column in columns]


async def _count(connection: Connection, ground: Ground, statement: str, *arguments: Any) -> int:
    async with bound(connection, ground.tenants[0]):
        try:
            return int(await connection.fetchval(statement, *arguments))
        except REFUSED:
            return 0


async def _affected(connection: Connection, ground: Ground, statement: str, *arguments: Any) -> bool:
    async with bound(connection, ground.tenants[0]):
        try:
            return not (await connection.execute(statement, *arguments)).endswith(" 0")
        except REFUSED:
            return False
        except REACHED:
            return True


async def _told(connection: Connection, ground: Ground, row: Row, tail: str, *, chosen: bool = False) -> str:
    async with bound(connection, ground.tenants[0]):
        try:
            return await insert(connection, ground.table, row, tail, chosen=chosen)
        except asyncpg.PostgresError as error:
            return error.sqlstate


async def _copied_out(connection: Connection, ground: Ground) -> bool:
    needles = [str(value).encode() for value in ground.key.values() if isinstance(value, uuid.UUID)]
    needles += [str(ground.tenants[1]).encode()] if ground.table.has_tenant else []
    found = False
    for statement in ("COPY {table} TO STDOUT", "COPY (SELECT * FROM {table}) TO STDOUT"):
        sink = io.BytesIO()
        async with bound(connection, ground.tenants[0]):
            try:
                if "SELECT" in statement:
                    await connection.copy_from_query(fill("SELECT * FROM {table}", ground.table), output=sink)
                else:
                    schema, _, name = ground.table.name.partition(".")
                    await connection.copy_from_table(name, schema_name=schema, output=sink)
            except REFUSED:
                continue
        found = found or any(needle in sink.getvalue() for needle in needles)
    return found


async def _copied_in(connection: Connection, ground: Ground, row: Row) -> bool:
    schema, _, name = ground.table.name.partition(".")
    async with bound(connection, ground.tenants[0]):
        try:
            await connection.copy_records_to_table(
                name, schema_name=schema, columns=list(row), records=[tuple(row.values())]
            )
        except REFUSED:
            return False
        except REACHED:
            return True
    return True
