"""Statements that requests wait for all the time: made into SQL once, and sent past the ORM.

    _BY_ID = PreparedStatement(select(Thing.name).where(Thing.id == bindparam("thing_id")))

    rows = await reads.rows(_BY_ID, thing_id=thing_id)  # in a transaction of its own
    rows = await rows_of(session, _BY_ID, thing_id=thing_id)  # in that of a session

The ORM takes four times as long for such a statement as the driver does. Both guards of `shared.tenancy` hold: the
criterion is compiled into the SQL for every table of a tenant, and filled in here alone; the transaction begins with
its tenant as that of a session does. Rows are plain, with columns by their names in the table.

Does not guarantee: that objects a session has loaded are as the statement left them.
Fails by: what a session fails by.
"""

import uuid
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, Select, Uuid, bindparam
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, with_loader_criteria
from sqlalchemy.sql.dml import ReturningUpdate
from sqlalchemy.util import greenlet_spawn

from shared.tenancy import Database, TenantOwned, begin_bound, tenant_of

_TENANT: Final = bindparam("bound_tenant", type_=Uuid())
_DIALECT: Final = dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


class PreparedStatement:
    """A SELECT of columns of mapped classes, or an UPDATE of one that returns columns.

    Raises:
        TypeError: a parameter has a value already, or one that Python has to convert for the driver.
    """

    def __init__(self, statement: Select[*tuple[Any, ...]] | ReturningUpdate[*tuple[Any, ...]]) -> None:
        criterion = with_loader_criteria(TenantOwned, lambda cls: cls.tenant_id == _TENANT, include_aliases=True)
        compiled = statement.options(criterion).compile(dialect=_DIALECT)
        names: Sequence[str] = compiled.positiontup or ()
        if any(value is not None for value in compiled.params.values()) or compiled._bind_processors:
            raise TypeError("parameters are bound when the read runs, to values that the driver takes")
        self.sql: Final = str(compiled)
        self._names: Final = names

    def values(self, tenant_id: uuid.UUID, given: dict[str, Any]) -> tuple[Any, ...]:
        """The parameters in the order of the SQL."""
        known = {**given, _TENANT.key: tenant_id}
        return tuple(known[name] for name in self._names)


class TenantReads:
    """Reads of one tenant, each in a transaction of its own, rolled back at its end."""

    def __init__(self, database: Database, tenant_id: uuid.UUID) -> None:
        self._database = database
        self.tenant_id = tenant_id

    async def rows(self, read: PreparedStatement, **values: Any) -> Sequence[Row[Any]]:
        """All rows."""
        return await send(self._database, self.tenant_id, read.sql, read.values(self.tenant_id, values))

    async def row(self, read: PreparedStatement, **values: Any) -> Row[Any] | None:
        """The only row there can be."""
        found = await self.rows(read, **values)
        return found[0] if found else None


async def rows_of(session: AsyncSession, statement: PreparedStatement, **values: Any) -> Sequence[Row[Any]]:
    """All rows, in the transaction of a tenant's session.

    Raises:
        TenantMismatch: the session is bound to no tenant.
    """
    return await session.run_sync(_in_session, statement.sql, statement.values(tenant_of(session), values))


def _in_session(session: Session, sql: str, values: tuple[Any, ...]) -> Sequence[Row[Any]]:
    session.flush()
    return session.connection().exec_driver_sql(sql, values).all()


async def send(database: Database, tenant_id: uuid.UUID, sql: str, values: tuple[Any, ...]) -> Sequence[Row[Any]]:
    """The rows of a SELECT that has the criterion already, in a transaction bound to a tenant."""
    return await greenlet_spawn(_send, database, tenant_id, sql, values)


def _send(database: Database, tenant_id: uuid.UUID, sql: str, values: tuple[Any, ...]) -> Sequence[Row[Any]]:
    # Nothing is written, so it is rolled back when the connection returns to the pool.
    with database.engines.runtime.sync_engine.connect() as connection:
        begin_bound(connection, tenant_id)
        return connection.exec_driver_sql(sql, values).all()
