import asyncio
import uuid

import pytest
from sqlalchemy import BigInteger, bindparam, func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import aliased

from shared.prepared_statements import PreparedStatement, TenantReads, rows_of, send
from shared.project_access import KnownProject
from shared.tenancy import Database, TenantMismatch
from tests.support.polling import eventually

_ALL = PreparedStatement(select(KnownProject.project_id, KnownProject.sequence))
_ONE = PreparedStatement(select(KnownProject.project_id).where(KnownProject.project_id == bindparam("project_id")))
_ADVANCED = PreparedStatement(
    update(KnownProject)
    .values(sequence=KnownProject.sequence + bindparam("more", type_=BigInteger()))
    .returning(KnownProject.sequence)
)
_OTHER = aliased(KnownProject)
_NESTED = PreparedStatement(
    select(func.count(_OTHER.project_id).label("others")).where(
        select(KnownProject.project_id).where(KnownProject.project_id == _OTHER.project_id).exists()
    )
)


async def remember(database: Database, tenant_id: uuid.UUID) -> uuid.UUID:
    """One row of the tenant; gives its project id."""
    project_id = uuid.uuid4()
    async with database.tenant(tenant_id) as session:
        session.add(KnownProject(project_id=project_id, active=True, sequence=1))
    return project_id


async def test_a_read_finds_the_rows_of_its_tenant_alone(database: Database, tenant_id: uuid.UUID) -> None:
    project_id = await remember(database, tenant_id)
    own, other = TenantReads(database, tenant_id), TenantReads(database, uuid.uuid4())
    assert [row.project_id for row in await own.rows(_ALL)] == [project_id]
    assert await other.rows(_ALL) == []
    assert await own.row(_ONE, project_id=project_id) == (project_id,)
    assert await other.row(_ONE, project_id=project_id) is None


@pytest.mark.parametrize("read", [_ALL, _NESTED], ids=["plain", "nested"])
async def test_the_criterion_of_a_read_alone_hides_other_tenants(
    database: Database, tenant_id: uuid.UUID, read: PreparedStatement
) -> None:
    """The database guard removed: Postgres is told the victim's tenant, the parameters are the attacker's."""
    await remember(database, tenant_id)
    rows = await send(database, tenant_id, read.sql, read.values(uuid.uuid4(), {}))
    assert [row for row in rows if any(row)] == []


@pytest.mark.parametrize("read", [_ALL, _NESTED], ids=["plain", "nested"])
async def test_row_level_security_alone_hides_other_tenants_from_a_read(
    database: Database, tenant_id: uuid.UUID, read: PreparedStatement
) -> None:
    """The criterion removed: the parameters claim the victim's tenant, Postgres knows the attacker's."""
    await remember(database, tenant_id)
    rows = await send(database, uuid.uuid4(), read.sql, read.values(tenant_id, {}))
    assert [row for row in rows if any(row)] == []


async def test_the_tenant_setting_ends_with_a_read(database: Database, tenant_id: uuid.UUID) -> None:
    await TenantReads(database, tenant_id).rows(_ALL)
    async with database.engines.runtime.connect() as connection:
        assert await connection.scalar(text("SELECT nullif(current_setting('app.tenant_id', true), '')")) is None


async def test_a_cancelled_read_leaves_no_tenant_and_no_transaction(database: Database, tenant_id: uuid.UUID) -> None:
    reading = asyncio.create_task(send(database, tenant_id, "SELECT pg_sleep(60)", ()))
    await eventually(lambda: _sleeps(database))
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await TenantReads(database, uuid.uuid4()).rows(_ALL) == []


async def _sleeps(database: Database) -> bool:
    statement = text("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'")
    async with database.engines.runtime.connect() as connection:
        return bool(await connection.scalar(statement))


async def test_a_statement_in_a_session_sees_what_the_session_has_written(
    database: Database, tenant_id: uuid.UUID
) -> None:
    project_id = uuid.uuid4()
    async with database.tenant(tenant_id) as session:
        session.add(KnownProject(project_id=project_id, active=True, sequence=1))
        assert await rows_of(session, _ONE, project_id=project_id) == [(project_id,)]
        assert await rows_of(session, _ADVANCED, more=2) == [(3,)]
    async with database.tenant(uuid.uuid4()) as session:
        assert await rows_of(session, _ADVANCED, more=2) == []
    async with database.system() as session:
        with pytest.raises(TenantMismatch):
            await rows_of(session, _ALL)


async def test_a_read_fails_as_a_session_does(database: Database, tenant_id: uuid.UUID) -> None:
    with pytest.raises(DBAPIError):
        await send(database, tenant_id, "SELECT 1 / 0", ())


def test_a_read_has_no_value_of_its_own() -> None:
    with pytest.raises(TypeError):
        PreparedStatement(select(KnownProject.project_id).where(KnownProject.sequence == 1))
