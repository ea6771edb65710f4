"""A change is answered for once every holder of copies knows of it, or may not use them any more."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from services.projects.settings import ProjectsSettings
from shared import db, invalidations
from shared.auth import PrincipalKind, ServiceTokens, TokenVerifier
from shared.background import run_in_background
from shared.errors import Unavailable
from shared.events.envelope import Envelope
from shared.events.projects import ProjectDeleted, ProjectUpdated
from shared.invalidations.holder import Holder, Ownership
from shared.invalidations.owner import Owner
from shared.invalidations.recording import confirm
from shared.invalidations.router import router
from shared.outbox import caused_by_request, publish
from shared.problems import install_problem_documents
from shared.request_context import RequestContext
from shared.service_permissions import Operation
from shared.tenancy import Database
from tests.support.identity import IdentityDouble
from tests.support.polling import eventually
from tests.support.serving import make_settings, serve
from tests.support.stacks import EnvironmentOf

USER = uuid.uuid4()


class OwningProcess:
    """A process of the projects service, as far as it tells holders. Several share one database."""

    def __init__(self, database: Database, owner: Owner, url: str) -> None:
        self.database = database
        self.owner = owner
        self.url = url

    async def delete_project(self, tenant_id: uuid.UUID, *, request: bool = True) -> uuid.UUID:
        """What a request, or an event, does that deletes a project; gives the project."""
        project_id = uuid.uuid4()
        async with self.database.tenant(tenant_id) as session:
            if request:
                caused_by_request(session, "request")
            publish(session, ProjectDeleted(project_id=project_id, actor_id=USER), sequence=2)
        return project_id


class Copies:
    """What a holder remembers: the deleted projects it was told of. `slow` holds it up."""

    def __init__(self) -> None:
        self.deleted: list[uuid.UUID] = []
        self.forgotten = 0
        self.let = asyncio.Event()
        self.let.set()

    async def apply(self, entries: Sequence[bytes]) -> None:
        await self.let.wait()
        for entry in entries:
            event = Envelope.from_json(entry).payload()
            assert isinstance(event, ProjectDeleted)
            self.deleted.append(event.project_id)

    def forget(self) -> None:
        self.forgotten += 1


Process = Callable[[], Awaitable[OwningProcess]]
Hold = Callable[..., Awaitable[tuple[Holder, Copies]]]


@pytest.fixture
async def process(service_environment: EnvironmentOf, tokens: IdentityDouble) -> AsyncIterator[Process]:
    """Start another process of the owner."""
    settings = make_settings(ProjectsSettings, await service_environment("projects"))
    async with AsyncExitStack() as stack:

        async def start() -> OwningProcess:
            engines = await db.connect(settings)
            stack.push_async_callback(engines.dispose)
            database = Database(engines)
            owner = Owner(database)
            database.on_invalidation(owner.wait)
            client = await stack.enter_async_context(aiohttp.ClientSession())
            verifier = TokenVerifier("projects", tokens.url, client)

            @asynccontextmanager
            async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, object]]:
                yield {"invalidations": owner, "verifier": verifier}

            app = FastAPI(lifespan=lifespan)
            app.add_middleware(RequestContext)
            install_problem_documents(app)
            app.include_router(router)
            url = await stack.enter_async_context(serve(app))
            await stack.enter_async_context(run_in_background(owner.run, name="owner"))
            return OwningProcess(database, owner, url)

        first = await start()
        async with first.database.system() as session:
            await session.execute(text("DELETE FROM copy_leases"))
            await session.execute(text("DELETE FROM invalidations"))
        yield start


@pytest.fixture
async def hold(tokens: IdentityDouble) -> AsyncIterator[Hold]:
    """Start a holder that has its lease when it is given."""
    async with AsyncExitStack() as stack:

        async def start(
            owner: OwningProcess, *, consumer: str = "indexing", durable: bool = False
        ) -> tuple[Holder, Copies]:
            holder, copies = await stack.enter_async_context(holding(owner, tokens, consumer=consumer, durable=durable))
            return holder, copies

        yield start


@asynccontextmanager
async def holding(
    owner: OwningProcess, tokens: IdentityDouble, *, consumer: str = "indexing", durable: bool = False
) -> AsyncIterator[tuple[Holder, Copies]]:
    copies = Copies()
    async with aiohttp.ClientSession() as client:
        ownership = Ownership("projects", owner.url, consumer, durable=durable)
        holder = Holder(ownership, ServiceTokens(consumer, "secret", tokens.url, client), client)
        async with run_in_background(lambda: holder.run(copies.apply, copies.forget), name="holder"):
            await holder.wait(10)
            yield holder, copies


async def test_whoever_was_answered_finds_it_in_every_holder(
    process: Process, hold: Hold, tenant_id: uuid.UUID
) -> None:
    """Through either process of the owner, in holders that poll one or the other."""
    owners = [await process(), await process()]
    copies = [(await hold(owner, consumer=consumer))[1] for owner in owners for consumer in ("indexing", "notifier")]
    for turn in range(10):
        project_id = await owners[turn % 2].delete_project(tenant_id)
        assert [known.deleted[-1] for known in copies] == [project_id] * 4
    assert [known.forgotten for known in copies] == [1] * 4


async def test_many_changes_at_once_each_wait_for_their_own(process: Process, hold: Hold, tenant_id: uuid.UUID) -> None:
    owner = await process()
    _, copies = await hold(owner)

    async def change() -> None:
        project_id = await owner.delete_project(tenant_id)
        assert project_id in copies.deleted

    await asyncio.gather(*(change() for _ in range(8)))
    assert len(copies.deleted) == len(set(copies.deleted)) == 8


async def test_nobody_waits_where_nobody_holds_copies(process: Process, tenant_id: uuid.UUID) -> None:
    owner = await process()
    async with asyncio.timeout(invalidations.LEASE_SECONDS / 2):
        await owner.delete_project(tenant_id)


async def test_an_event_that_follows_from_an_event_is_told_and_waits_for_nobody(
    process: Process, hold: Hold, tenant_id: uuid.UUID
) -> None:
    owner = await process()
    _, copies = await hold(owner)
    copies.let.clear()
    async with asyncio.timeout(invalidations.LEASE_SECONDS / 2):
        project_id = await owner.delete_project(tenant_id, request=False)
    copies.let.set()

    async def told() -> bool:
        return copies.deleted == [project_id]

    await eventually(told)


async def test_what_was_so_already_is_confirmed_once_holders_know_of_it(
    process: Process, hold: Hold, tenant_id: uuid.UUID
) -> None:
    """Whoever made it so may still be waiting, or may have been killed while it did."""
    owner = await process()
    _, copies = await hold(owner)
    copies.let.clear()
    first = asyncio.create_task(owner.delete_project(tenant_id))

    async def committed() -> bool:
        async with owner.database.system() as session:
            return bool((await session.execute(text("SELECT count(*) FROM invalidations"))).scalar_one())

    await eventually(committed)

    async def again() -> None:
        async with owner.database.tenant(tenant_id) as session:
            caused_by_request(session, "request")
            confirm(session)

    second = asyncio.create_task(again())
    await asyncio.sleep(0.2)
    assert not second.done()
    copies.let.set()
    await second
    assert copies.deleted == [await first]


async def test_other_events_are_told_to_nobody(process: Process, hold: Hold, tenant_id: uuid.UUID) -> None:
    owner = await process()
    await hold(owner)
    async with owner.database.tenant(tenant_id) as session:
        caused_by_request(session, "request")
        publish(session, ProjectUpdated(project_id=uuid.uuid4(), actor_id=USER, name="n"), sequence=2)
    async with owner.database.system() as session:
        assert (await session.execute(text("SELECT count(*) FROM invalidations"))).scalar_one() == 0


async def test_a_rolled_back_change_is_told_to_nobody(process: Process, hold: Hold, tenant_id: uuid.UUID) -> None:
    owner = await process()
    _, copies = await hold(owner)
    with pytest.raises(KeyError):
        async with owner.database.tenant(tenant_id) as session:
            caused_by_request(session, "request")
            publish(session, ProjectDeleted(project_id=uuid.uuid4(), actor_id=USER), sequence=2)
            await session.flush()
            raise KeyError
    project_id = await owner.delete_project(tenant_id)
    assert copies.deleted == [project_id]


async def test_a_holder_that_does_not_answer_is_waited_for_until_it_may_not_use_its_copies(
    process: Process, hold: Hold, tenant_id: uuid.UUID
) -> None:
    """The lease ends for the holder before it ends for the owner; then nobody waits for it any more."""
    owner = await process()
    holder, copies = await hold(owner)
    copies.let.clear()
    began = time.monotonic()
    first = await owner.delete_project(tenant_id)
    assert not holder.current
    assert time.monotonic() - began < invalidations.LEASE_SECONDS + 2 * invalidations.MARGIN_SECONDS
    with pytest.raises(Unavailable):
        holder.check()
    began = time.monotonic()
    second = await owner.delete_project(tenant_id)
    assert time.monotonic() - began < invalidations.LEASE_SECONDS / 2
    copies.let.set()
    await holder.wait(10)
    assert copies.deleted == [first, second]


async def test_a_holder_that_ends_gives_its_lease_back(
    process: Process, tokens: IdentityDouble, tenant_id: uuid.UUID
) -> None:
    owner = await process()
    async with holding(owner, tokens) as (holder, copies):
        copies.let.clear()
    assert not holder.current
    async with asyncio.timeout(invalidations.LEASE_SECONDS / 2):
        await owner.delete_project(tenant_id)


async def test_what_a_durable_holder_missed_is_told_to_the_next_of_its_service(
    process: Process, tokens: IdentityDouble, tenant_id: uuid.UUID
) -> None:
    owner = await process()
    async with holding(owner, tokens, durable=True) as (_, copies):
        known = await owner.delete_project(tenant_id)
        assert copies.deleted == [known]

        # Acknowledged before the holder goes.
        async def acknowledged() -> bool:
            async with owner.database.system() as session:
                rows = await session.execute(text("SELECT max(acknowledged) FROM copy_leases"))
                newest = await session.execute(text("SELECT max(position) FROM invalidations"))
                return bool(rows.scalar_one() == newest.scalar_one())

        await eventually(acknowledged)
        # Killed: the row of the lease stays.
        async with owner.database.system() as session:
            await session.execute(text("UPDATE copy_leases SET holder = gen_random_uuid(), expires_at = now()"))
    missed = await owner.delete_project(tenant_id)
    async with holding(owner, tokens, durable=True) as (_, copies):
        assert copies.deleted == [missed]


async def test_a_lease_is_for_services_alone_and_each_hears_what_is_its_own(
    process: Process, tokens: IdentityDouble, tenant_id: uuid.UUID
) -> None:
    owner = await process()
    others = set(Operation) - {Operation.HOLD_COPIES}
    async with aiohttp.ClientSession(owner.url) as client:
        body = {"holder": str(uuid.uuid4()), "durable": False}
        for headers, status in (
            ({}, 401),
            (tokens.headers("projects", tenant_id=tenant_id), 403),
            (tokens.headers("indexing", tenant_id=None), 401),
            (tokens.headers("projects", tenant_id=None, kind=PrincipalKind.SERVICE, operations=others), 403),
        ):
            async with client.post(f"{invalidations.PATH}/lease", json=body, headers=headers) as answer:
                assert answer.status == status


async def test_a_cut_off_listener_is_replaced(process: Process, hold: Hold, tenant_id: uuid.UUID) -> None:
    """Its connection ends; telling goes on, if later, and soon as fast as before."""
    owner = await process()
    _, copies = await hold(owner)
    async with owner.database.system() as session:
        await session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE query LIKE 'LISTEN%' AND usename = current_user AND pid <> pg_backend_pid()"
            )
        )
    for _ in range(3):
        assert await owner.delete_project(tenant_id) in copies.deleted
