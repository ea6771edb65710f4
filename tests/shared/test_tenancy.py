import uuid

import pytest
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from infra.local.stack import Stack
from infra.postgres.roles import Access
from shared import db, outbox, tenancy
from shared.events.projects import ProjectDeleted
from shared.project_access import KnownProject
from shared.relay import RelayState
from shared.settings import SettingsError
from shared.tenancy import Database, TenantMismatch, UnguardedStatement, after_commit, tenant_of
from tests.shared.conftest import SampleSettings


async def remember(database: Database, tenant_id: uuid.UUID) -> uuid.UUID:
    """One row of the tenant; gives its project id."""
    project_id = uuid.uuid4()
    async with database.tenant(tenant_id) as session:
        session.add(KnownProject(project_id=project_id, active=True, sequence=1))
    return project_id


async def visible(database: Database, tenant_id: uuid.UUID) -> list[uuid.UUID]:
    async with database.tenant(tenant_id) as session:
        return list(await session.scalars(select(KnownProject.project_id)))


async def test_a_row_is_stamped_with_the_tenant_of_its_transaction(database: Database, tenant_id: uuid.UUID) -> None:
    project_id = await remember(database, tenant_id)
    assert await visible(database, tenant_id) == [project_id]


async def test_another_tenant_sees_changes_and_deletes_nothing(database: Database, tenant_id: uuid.UUID) -> None:
    project_id = await remember(database, tenant_id)
    async with database.tenant(uuid.uuid4()) as session:
        assert list(await session.scalars(select(KnownProject))) == []
        assert await session.scalar(select(func.count()).select_from(KnownProject)) == 0
        assert await session.get(KnownProject, (tenant_id, project_id)) is None
        await session.execute(update(KnownProject).values(active=False))
        await session.execute(delete(KnownProject))
    assert await visible(database, tenant_id) == [project_id]


async def test_the_criterion_alone_hides_other_tenants(
    database: Database, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database guard removed: Postgres is told the victim's tenant, the session is the attacker's."""
    await remember(database, tenant_id)
    async with database.tenant(uuid.uuid4()) as session:
        await _bind_database(session, tenant_id)
        assert list(await session.scalars(select(KnownProject))) == []
        await session.execute(delete(KnownProject))
    assert len(await visible(database, tenant_id)) == 1


async def test_row_level_security_alone_hides_other_tenants(database: Database, tenant_id: uuid.UUID) -> None:
    """The criterion removed: the session claims the victim's tenant, Postgres knows the attacker's."""
    await remember(database, tenant_id)
    async with database.tenant(uuid.uuid4()) as session:
        await session.connection()
        session.info["tenant_id"] = tenant_id
        assert list(await session.scalars(select(KnownProject))) == []
        await session.execute(delete(KnownProject))
    assert len(await visible(database, tenant_id)) == 1


async def test_postgres_refuses_a_row_of_another_tenant(database: Database, tenant_id: uuid.UUID) -> None:
    attacker = uuid.uuid4()
    with pytest.raises(DBAPIError, match="row-level security"):
        async with database.tenant(attacker) as session:
            await session.connection()
            session.info["tenant_id"] = tenant_id
            session.add(KnownProject(tenant_id=tenant_id, project_id=uuid.uuid4(), active=True, sequence=1))


async def test_the_session_refuses_a_row_of_another_tenant(database: Database, tenant_id: uuid.UUID) -> None:
    with pytest.raises(TenantMismatch):
        async with database.tenant(tenant_id) as session:
            session.add(KnownProject(tenant_id=uuid.uuid4(), project_id=uuid.uuid4(), active=True, sequence=1))


async def test_an_event_of_another_tenant_is_refused(database: Database, tenant_id: uuid.UUID) -> None:
    event = ProjectDeleted(project_id=uuid.uuid4(), actor_id=uuid.uuid4())
    async with database.tenant(tenant_id) as session:
        with pytest.raises(TenantMismatch):
            outbox.publish(session, event, sequence=1, tenant_id=uuid.uuid4())


async def test_a_statement_the_criterion_cannot_reach_is_refused(database: Database, tenant_id: uuid.UUID) -> None:
    for statement in (
        text("SELECT 1"),
        select(KnownProject.__table__),
        KnownProject.metadata.tables["known_projects"].delete(),
    ):
        with pytest.raises(UnguardedStatement):
            async with database.tenant(tenant_id) as session:
                await session.execute(statement)


async def test_the_tenant_setting_ends_with_its_transaction(database: Database, tenant_id: uuid.UUID) -> None:
    await remember(database, tenant_id)
    with pytest.raises(DBAPIError):
        async with database.tenant(tenant_id) as session:
            await session.execute(text("SELECT 1/0").execution_options(tenant_guard="fails on purpose"))
    await _assert_bound_to_nobody(database)


async def test_the_tenant_of_a_transaction_that_never_began_is_forgotten(
    database: Database, tenant_id: uuid.UUID
) -> None:
    await remember(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        await session.connection()
    await _assert_bound_to_nobody(database)


async def _assert_bound_to_nobody(database: Database) -> None:
    for _ in range(database.engines.runtime.pool.size()):  # type: ignore[attr-defined]  # a queue pool
        async with database.engines.runtime.connect() as connection:
            setting = await connection.scalar(text("SELECT nullif(current_setting('app.tenant_id', true), '')"))
            assert setting is None
            assert await connection.scalar(select(func.count()).select_from(KnownProject.__table__)) == 0


async def test_the_system_role_sees_only_what_is_listed(database: Database, tenant_id: uuid.UUID) -> None:
    await remember(database, tenant_id)
    async with database.system() as session:
        await session.scalars(select(RelayState))
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.system() as session:
            await session.scalars(select(KnownProject))


async def test_a_system_session_has_no_tenant_to_fall_back_on(database: Database) -> None:
    async with database.system() as session:
        with pytest.raises(TenantMismatch):
            tenant_of(session)


async def test_callbacks_run_after_a_commit_and_not_after_a_rollback(database: Database, tenant_id: uuid.UUID) -> None:
    ran: list[str] = []
    async with database.tenant(tenant_id) as session:
        after_commit(session, lambda: ran.append("committed"))
        assert ran == []
    with pytest.raises(ZeroDivisionError):
        async with database.tenant(tenant_id) as session:
            after_commit(session, lambda: ran.append("rolled back"))
            raise ZeroDivisionError
    assert ran == ["committed"]


async def test_a_role_that_owns_its_tables_may_not_serve(settings: SampleSettings, stack: Stack) -> None:
    owner = stack.database_url("notifier", Access.OWNER)
    with pytest.raises(SettingsError, match="owns tables"):
        await db.connect(settings.model_copy(update={"database_url": type(settings.database_url)(owner)}))


async def _bind_database(session: AsyncSession, tenant_id: uuid.UUID) -> None:
    await session.execute(
        text("SELECT set_config(:name, :tenant, true)").execution_options(tenant_guard="removes a guard on purpose"),
        {"name": tenancy.TENANT_SETTING, "tenant": str(tenant_id)},
    )
