"""Events that speak of what is not theirs: another tenant's ids, a version nobody knows, a second time.

Every handler and every follower, by event type, from the table of who reads what. What a service may write into Redis
at all is in `tests/infra/test_redis_acl.py`.
"""

import importlib
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import aiohttp
import asyncpg
import orjson
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from infra.contracts.catalogue import GOLDEN
from infra.local.stack import Stack
from infra.postgres.roles import DATABASE
from services.indexing.agents.runs.handlers import handlers as runs_of_indexing
from services.indexing.documents.handlers import handlers as indexing_handlers
from services.notifier.feeds.handlers import feed_handlers
from services.notifier.feeds.repository import FeedKey
from services.notifier.runs.handlers import run_handlers
from services.notifier.settings import NotifierSettings
from services.notifier.streams import progress_ticks
from services.notifier.streams.connection import Connection as StreamConnection
from services.notifier.streams.connections import Connections
from services.notifier.streams.hub import Channel, Hub
from services.notifier.streams.revocations import Revocations
from services.projects.documents.handlers import HANDLERS as DOCUMENTS_HANDLERS
from services.projects.purges.handlers import HANDLERS as PURGES_HANDLERS
from services.projects.tenants.handlers import HANDLERS as TENANTS_HANDLERS
from shared import db
from shared.auth import ALL_SCOPES, Principal, PrincipalKind, ServiceTokens
from shared.delivery import Delivery, Dispatcher
from shared.events.envelope import Envelope, Event, producer_of
from shared.events.identity import MembershipChanged, SessionRevoked, TenantDeleted
from shared.events.indexing import ProgressTick
from shared.events.projects import DocumentUpdated, DocumentUploaded, ProjectMemberChanged, ProjectUpdated
from shared.events.subscriptions import FOLLOWED, HANDLED
from shared.handlers import AnyHandler, Handler
from shared.migrations import SERVICES_WITH_SCHEMA
from shared.project_access import ProjectDirectory, access_handlers
from shared.redis_clients import stream_of
from shared.settings import DatabaseSettings
from shared.tenancy import Database
from tests.isolation.tables import Connection, Table, described, plant, rows_of, uproot
from tests.services.notifier.feeding import RETENTION, unheard
from tests.support.identity import IdentityDouble
from tests.support.leases import held
from tests.support.serving import make_settings
from tests.support.stacks import EnvironmentOf, Migrate

PROJECT, DOCUMENT, JOB, USER, RUN = (uuid.uuid4() for _ in range(5))
# Rows as they would be in the middle of work: not deleted, and older than any event below.
ROWS: Mapping[str, Any] = {
    **{"project_id": PROJECT, "document_id": DOCUMENT, "user_id": USER, "feed_id": PROJECT, "subject_id": DOCUMENT},
    **{"projects.projects.id": PROJECT, "projects.documents.id": DOCUMENT, "indexing.jobs.id": JOB},
    **{"run_id": RUN, "indexing.runs.id": RUN, "trimmed": False, "ended": False, "indexing.run_steps.position": 1},
    **{f"indexing.{table}.revision": JOB for table in ("vector_changes", "generation_documents")},
    **{"version": 1, "live_version": 1, "sequence": 1, "revision": 1, "job_sequence": 0, "request_sequence": 0},
    **{"last_sequence": 1, "first_kept_sequence": 1, "tenant_sequence": 10**6, "attempts": 0, "first_index": 0},
    "membership_number": 1,
    **{"deleted": False, "cancel_requested": False, "deleted_at": None, "job_id": None},
    # Nobody has told of its end yet.
    **{
        "purged_at": None,
        "projects.document_purges.notifier": None,
        "told": False,
        "notifier.document_purges.index_purged": False,
    },
    **{"projects.document_purges.indexing": None, "notifier.document_purges.entries": None},
    "projects.blob_deletions.deleted": [DOCUMENT],
    **{f"{table}.role": "viewer" for table in ("projects.project_members", "indexing.project_access")},
    **{"notifier.project_access.role": "viewer", "notifier.feed_events.type": "document.uploaded"},
}
# A row of theirs says that the tenant is gone, and nothing is done for it any more.
TOMBSTONES = ("indexing.deleted_tenants", "notifier.deleted_tenants", "projects.tenant_erasures")
EVENT: Mapping[str, Any] = {
    **{"project_id": PROJECT, "document_id": DOCUMENT, "job_id": JOB, "user_id": USER, "owner_id": USER},
    **{"actor_id": USER, "version": 1, "api_key_id": DOCUMENT, "session_id": DOCUMENT},
    **{"membership_number": 2, "run_id": RUN, "batch_id": DOCUMENT},
    # A document that is linked to another is not indexed.
    **{"linked_to": None},
}
# A user who left has no role.
ROLES: Mapping[type[Event], str | None] = {ProjectMemberChanged: "editor", MembershipChanged: None}
# Two name a tenant by themselves, and contradict their envelope; the third waits for the upload of its document.
LEFT_UNAPPLIED = (
    *((service, event) for service in HANDLED for event in (TenantDeleted, MembershipChanged)),
    ("indexing", DocumentUpdated),
)
CASES = [(service, event) for service, events in HANDLED.items() for event in events]


class _Settings(DatabaseSettings):
    """Of whichever service."""


def settings_of(service: str) -> type[DatabaseSettings]:
    return type(f"{service}Settings", (_Settings,), {"service": service, "__annotations__": {"service": ClassVar[str]}})


@pytest.fixture(scope="module")
async def admin(stack: Stack, migrated: Migrate) -> AsyncIterator[Connection]:
    for service in SERVICES_WITH_SCHEMA:
        await migrated(service)
    connection = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
async def tables(admin: Connection) -> dict[str, Table]:
    return await described(admin, SERVICES_WITH_SCHEMA)


@pytest.fixture(scope="module")
async def databases(service_environment: EnvironmentOf, admin: Connection) -> AsyncIterator[dict[str, Database]]:
    engines = {
        service: await db.connect(make_settings(settings_of(service), await service_environment(service)))
        for service in HANDLED
    }
    yield {service: Database(engine) for service, engine in engines.items()}
    for engine in engines.values():
        await engine.dispose()


@pytest.fixture
async def victim(admin: Connection, tables: dict[str, Table]) -> AsyncIterator[uuid.UUID]:
    """A tenant with a row in every table; gone after the test, with what events of the attacker left."""
    tenant_id = uuid.uuid4()
    sown = {name: table for name, table in tables.items() if table.has_tenant and name not in TOMBSTONES}
    await plant(admin, sown, tenant_id, ROWS)
    yield tenant_id
    await uproot(admin, tables.values(), [tenant_id, ATTACKER])


ATTACKER = uuid.uuid4()


def handlers_of(service: str) -> Sequence[AnyHandler]:
    # All tables of the service, not only those its handlers name, are mapped.
    importlib.import_module(f"services.{service}.main")

    def nothing() -> None:
        """Nobody works here."""

    of_services: dict[str, Sequence[AnyHandler]] = {
        "projects": (*DOCUMENTS_HANDLERS, *PURGES_HANDLERS, *TENANTS_HANDLERS),
        "indexing": (
            *access_handlers("indexing"),
            *indexing_handlers(wake=nothing, interrupt=nothing),
            *runs_of_indexing(wake=nothing, interrupt=nothing),
        ),
        "notifier": (
            *access_handlers("notifier"),
            *feed_handlers(RETENTION, unheard),
            *run_handlers(RETENTION.keep_for, lambda _: None),
        ),
    }
    return of_services[service]


def about(event: type[Event], victim: uuid.UUID, *, envelope_of: uuid.UUID, kind: str | None = None) -> Envelope:
    """An event about the victim's things, in an envelope of whichever tenant."""
    entry = orjson.loads((GOLDEN / f"{event.type}.json").read_bytes())
    changed = {name: str(value) if isinstance(value, uuid.UUID) else value for name, value in EVENT.items()}
    data = {name: changed.get(name, value) for name, value in entry["data"].items()}
    if "tenant_id" in data:
        data["tenant_id"] = str(victim)
    if "role" in data:
        data["role"] = ROLES[event]
    fields = {"id": str(uuid.uuid4()), "tenantid": str(envelope_of), "sequence": 100, "data": data}
    return Envelope.model_validate({**entry, **fields, "type": kind or event.type})


async def deliver(database: Database, handlers: Sequence[AnyHandler], *envelopes: Envelope) -> int:
    """How many of the events are dealt with."""
    deliveries = [
        Delivery(stream_of(producer_of(envelope.type)), "test", f"{uuid.uuid4().int % 10**15}-0", envelope.to_json(), 1)
        for envelope in envelopes
    ]
    return len((await Dispatcher(database, handlers).deliver(deliveries)).done)


@pytest.mark.parametrize(("service", "event"), CASES, ids=lambda case: getattr(case, "type", case))
async def test_an_event_about_another_tenants_things_changes_nothing(
    admin: Connection,
    tables: dict[str, Table],
    databases: dict[str, Database],
    victim: uuid.UUID,
    service: str,
    event: type[Event],
) -> None:
    """And the same event in an envelope of the victim's own does change something: else this would prove nothing."""
    own = [table for table in tables.values() if table.service == service and not table.name.endswith(".inbox")]
    before = await rows_of(admin, own, victim)
    assert sum(map(len, before.values())) >= 4

    done = await deliver(databases[service], handlers_of(service), about(event, victim, envelope_of=ATTACKER))

    assert await rows_of(admin, own, victim) == before
    assert done == ((service, event) not in LEFT_UNAPPLIED)
    await deliver(databases[service], handlers_of(service), about(event, victim, envelope_of=victim))
    assert await rows_of(admin, own, victim) != before


async def test_events_of_two_tenants_in_one_read_stay_apart(
    admin: Connection, tables: dict[str, Table], databases: dict[str, Database], victim: uuid.UUID
) -> None:
    """Entries of one read share a transaction where they share a tenant, and only there."""
    feeds = [tables["notifier.feed_events"]]
    before = await rows_of(admin, feeds, victim)
    envelopes = [
        about(ProjectUpdated, victim, envelope_of=tenant) for tenant in (victim, ATTACKER, victim, ATTACKER, ATTACKER)
    ]
    assert await deliver(databases["notifier"], handlers_of("notifier"), *envelopes) == len(envelopes)
    found = {tenant: await rows_of(admin, feeds, tenant) for tenant in (victim, ATTACKER)}
    told = {
        tenant: {orjson.loads(row)["event_id"] for row in rows["notifier.feed_events"]}
        for tenant, rows in found.items()
    }
    assert told[ATTACKER] == {str(envelope.id) for envelope in envelopes if envelope.tenantid == ATTACKER}
    assert len(found[victim]["notifier.feed_events"]) == len(before["notifier.feed_events"]) + 2


@pytest.mark.parametrize(("service", "event"), CASES, ids=lambda case: getattr(case, "type", case))
async def test_an_unknown_version_is_quarantined_and_changes_nothing(
    admin: Connection,
    tables: dict[str, Table],
    databases: dict[str, Database],
    victim: uuid.UUID,
    service: str,
    event: type[Event],
) -> None:
    own = [table for table in tables.values() if table.service == service and not table.name.endswith("dead_letters")]
    before = await rows_of(admin, own, victim)
    unknown = about(event, victim, envelope_of=victim, kind=event.type.rpartition(".")[0] + ".v99")
    assert await deliver(databases[service], handlers_of(service), unknown) == 1
    assert await rows_of(admin, own, victim) == before
    letters = await admin.fetch(
        f"SELECT reason FROM {service}.dead_letters WHERE position($1::bytea in payload) > 0",  # noqa: S608  # our own names
        str(unknown.id).encode(),
    )
    assert [letter["reason"] for letter in letters] == [f"unknown version: {unknown.type}"]
    await admin.execute(
        f"DELETE FROM {service}.dead_letters WHERE position($1::bytea in payload) > 0",  # noqa: S608  # our own names
        str(unknown.id).encode(),
    )


@pytest.mark.parametrize(("service", "event"), CASES, ids=lambda case: getattr(case, "type", case))
async def test_what_comes_again_changes_nothing_more(
    admin: Connection,
    tables: dict[str, Table],
    databases: dict[str, Database],
    victim: uuid.UUID,
    service: str,
    event: type[Event],
) -> None:
    """By itself or twice in one read. The inbox of the tenant has it once for each handler."""
    own = [table for table in tables.values() if table.service == service]
    handlers = handlers_of(service)
    before = await rows_of(admin, own, victim)
    envelope = about(event, victim, envelope_of=victim)
    assert await deliver(databases[service], handlers, envelope) == 1
    once = await rows_of(admin, own, victim)
    assert once != before

    assert await deliver(databases[service], handlers, envelope, envelope) == 2

    assert await rows_of(admin, own, victim) == once
    noted = [row for row in once[f"{service}.inbox"] if orjson.loads(row)["event_id"] == str(envelope.id)]
    assert len(noted) == len([handler for handler in handlers if handler.event is event])


async def test_an_event_that_comes_again_has_no_second_effect(
    databases: dict[str, Database], victim: uuid.UUID
) -> None:
    effects: list[uuid.UUID] = []

    async def count(_session: AsyncSession, _event: DocumentUploaded, envelope: Envelope) -> None:
        effects.append(envelope.tenantid)

    handler = Handler(event=DocumentUploaded, call=count, name="test.count")
    envelope = about(DocumentUploaded, victim, envelope_of=victim)
    for _ in range(3):
        assert await deliver(databases["notifier"], [handler], envelope) == 1
    assert effects == [victim]


async def test_the_inbox_of_one_tenant_is_not_anothers(databases: dict[str, Database], victim: uuid.UUID) -> None:
    """An event id that another tenant has used up is as good as new: nobody can swallow somebody's events."""
    effects: list[uuid.UUID] = []

    async def count(_session: AsyncSession, _event: DocumentUploaded, envelope: Envelope) -> None:
        effects.append(envelope.tenantid)

    handler = Handler(event=DocumentUploaded, call=count, name="test.count")
    stolen = about(DocumentUploaded, victim, envelope_of=ATTACKER)
    await deliver(databases["notifier"], [handler], stolen)
    await deliver(databases["notifier"], [handler], stolen.model_copy(update={"tenantid": victim}))
    assert effects == [ATTACKER, victim]


# --- followers ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def connections(service_environment: EnvironmentOf) -> Connections:
    return Connections(make_settings(NotifierSettings, await service_environment("notifier")))


@pytest.fixture
async def revocations(
    connections: Connections, databases: dict[str, Database], tokens: IdentityDouble
) -> AsyncIterator[Revocations]:
    async with aiohttp.ClientSession() as client:
        directory = ProjectDirectory(
            "http://127.0.0.1:9", ServiceTokens("notifier", "secret", tokens.url, client), client, held()
        )
        yield Revocations(connections, databases["notifier"], directory)


def follow(connections: Connections, tenant_id: uuid.UUID) -> StreamConnection:
    """A member's stream with everything an event could mean: its project, its user, its credential."""
    principal = Principal(
        PrincipalKind.API_KEY, str(USER), USER, tenant_id, "member", ALL_SCOPES, EVENT["api_key_id"], None
    )
    connection = connections.admit(principal, FeedKey(tenant_id, tenant_id))
    connection.visible = frozenset({PROJECT})
    return connection


@pytest.mark.parametrize("event", FOLLOWED["notifier"], ids=lambda event: event.type)
async def test_an_event_of_another_tenant_ends_no_stream(
    connections: Connections, revocations: Revocations, event: type[Event]
) -> None:
    """A session is the one thing that is its user's in every tenant: its end is everywhere the end."""
    victim = uuid.uuid4()
    stream = follow(connections, victim)
    if event is not SessionRevoked:
        foreign = about(event, victim, envelope_of=uuid.uuid4())
        revocations.hear(stream_of(producer_of(event.type)), b"1-0", {b"event": foreign.to_json()})
        assert stream.ending is None
        assert [look for look in revocations._looks if look.tenant_id == victim] == []
    own = {b"event": about(event, victim, envelope_of=victim).to_json()}
    revocations.hear("events.indexing", b"1-1", own)
    assert stream.ending is None
    assert [look for look in revocations._looks if look.tenant_id == victim] == []
    revocations.hear(stream_of(producer_of(event.type)), b"1-2", own)
    assert stream.ending is not None or [look for look in revocations._looks if look.concerns(stream)]


async def test_progress_under_another_tenant_reaches_nobody(
    connections: Connections, databases: dict[str, Database]
) -> None:
    victim = uuid.uuid4()
    hub = Hub(databases["notifier"], poll_seconds=600)
    key = FeedKey(victim, PROJECT)
    stream = connections.admit(Principal(PrincipalKind.API_KEY, str(USER), USER, victim, "owner", ALL_SCOPES), key)
    channel = hub._channels[key] = Channel(key, 0)
    channel.subscribers.add(stream)
    hear = progress_ticks.hear(hub)
    for tenant, shown in ((uuid.uuid4(), 0), (victim, 1)):
        tick = ProgressTick(
            tenant_id=tenant,
            project_id=PROJECT,
            document_id=DOCUMENT,
            job_id=JOB,
            stage="embedding",
            percent=50,
            done=1,
            total=2,
            unit="chunks",
            time=datetime.now(UTC),
            traceparent=None,
        )
        hear(b"1-0", {progress_ticks.FIELD: orjson.dumps(tick.model_dump(mode="json", exclude_none=True))})
        assert len(stream._queue) == shown
    hub.close()


def test_every_event_has_a_case_here() -> None:
    """A handler or follower that is new is attacked from its first day."""
    handled = {event.type for events in HANDLED.values() for event in events}
    assert {event.type for _, event in CASES} == handled
    for service, event in CASES:
        assert event.type in {handler.event.type for handler in handlers_of(service)}
        assert (GOLDEN / f"{event.type}.json").exists()
        assert producer_of(event.type) != service
