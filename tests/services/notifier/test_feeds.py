"""Appending: gapless, once, never backwards."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, String, select, update
from sqlalchemy.ext.asyncio import create_async_engine

from infra.local.stack import Stack
from infra.postgres.roles import Access
from services.notifier.feeds import models, repository, service
from services.notifier.feeds.handlers import SHOWN, feed_handlers
from services.notifier.feeds.models import FeedEvent
from services.notifier.feeds.repository import EMPTY, FeedKey, Head, NewEvent, StoredEvent
from services.notifier.feeds.service import TRIM_EVERY, Announcement, Retention
from services.notifier.orm_base import Base
from shared import bounded_deletes
from shared.db import Model
from shared.events.envelope import Envelope, Event
from shared.events.identity import TenantDeleted
from shared.events.indexing import IndexPurged
from shared.events.projects import (
    DocumentCancelled,
    DocumentDeleted,
    DocumentFailed,
    DocumentPurged,
    DocumentUpdated,
    ProjectMemberChanged,
    ProjectUpdated,
)
from shared.outbox import OutboxEvent
from shared.tenancy import Database
from tests.services.notifier.feeding import RETENTION, append, erase, indexed, new_event, unheard, uploaded


async def _all(database: Database, key: FeedKey) -> list[StoredEvent]:
    async with database.tenant(key.tenant_id) as session:
        return list(await repository.events_between(session, key, after=0, until=10**9, limit=10**6))


async def _head(database: Database, key: FeedKey) -> Head:
    async with database.tenant(key.tenant_id) as session:
        return (await repository.heads(session, [key.feed_id])).get(key.feed_id, EMPTY)


async def _end(database: Database, tenant_id: uuid.UUID) -> None:
    """What happens when the tenant is deleted."""
    deleted = TenantDeleted(tenant_id=tenant_id)
    (handler,) = (handler for handler in feed_handlers(RETENTION, unheard) if handler.event is TenantDeleted)
    async with database.tenant(tenant_id) as session:
        await handler.call(session, deleted, _wrap(tenant_id, deleted))


async def test_sequences_are_gapless_under_concurrency(database: Database, tenant_id: uuid.UUID) -> None:
    projects = [uuid.uuid4() for _ in range(3)]
    await asyncio.gather(*(append(database, tenant_id, new_event(projects[n % 3])) for n in range(60)))
    for project_id in projects:
        events = await _all(database, FeedKey(tenant_id, project_id))
        assert [event.sequence for event in events] == list(range(1, 21))
    everything = await _all(database, FeedKey(tenant_id, tenant_id))
    assert [event.sequence for event in everything] == list(range(1, 61))


async def test_a_rolled_back_append_leaves_no_gap(database: Database, tenant_id: uuid.UUID) -> None:
    project_id = uuid.uuid4()
    await append(database, tenant_id, new_event(project_id))
    event = new_event(project_id)
    async with database.tenant(tenant_id) as session:
        await repository.next_sequences(session, project_id)
        await session.rollback()
    await append(database, tenant_id, event)
    assert [event.sequence for event in await _all(database, FeedKey(tenant_id, project_id))] == [1, 2]


async def test_an_event_is_appended_once_even_when_the_inbox_has_forgotten_it(
    database: Database, tenant_id: uuid.UUID
) -> None:
    event = new_event(uuid.uuid4())
    await append(database, tenant_id, event)
    await append(database, tenant_id, event)
    key = FeedKey(tenant_id, event.project_id)
    assert [stored.sequence for stored in await _all(database, key)] == [1]
    assert await _head(database, key) == Head(last=1, first_kept=1)
    assert await _head(database, FeedKey(tenant_id, tenant_id)) == Head(last=1, first_kept=1)


async def test_a_late_event_is_told_with_its_revision(database: Database, tenant_id: uuid.UUID) -> None:
    project_id, document_id = uuid.uuid4(), uuid.uuid4()
    await append(database, tenant_id, new_event(project_id, subject_id=document_id, revision=5))
    await append(database, tenant_id, new_event(project_id, subject_id=document_id, revision=4))
    events = await _all(database, FeedKey(tenant_id, project_id))
    assert [event.sequence for event in events] == [1, 2]


async def test_nothing_is_told_of_a_document_after_its_deletion(database: Database, tenant_id: uuid.UUID) -> None:
    project_id, document_id = uuid.uuid4(), uuid.uuid4()
    await append(
        database, tenant_id, new_event(project_id, subject_id=document_id, revision=5, type="document.deleted")
    )
    await append(database, tenant_id, new_event(project_id, subject_id=document_id, revision=4))
    await append(database, tenant_id, new_event(project_id, revision=1))
    events = await _all(database, FeedKey(tenant_id, project_id))
    assert [event.sequence for event in events] == [1, 2]


async def test_only_a_committed_append_is_announced(database: Database, tenant_id: uuid.UUID) -> None:
    heard: list[Announcement] = []

    def hear(announcement: Announcement, event: NewEvent) -> None:
        heard.append(announcement)

    handlers = {handler.event: handler for handler in feed_handlers(RETENTION, hear)}
    event = uploaded(uuid.uuid4())
    envelope = _wrap(tenant_id, event)
    with pytest.raises(ZeroDivisionError):
        async with database.tenant(tenant_id) as session:
            await handlers[type(event)].call(session, event, envelope)
            raise ZeroDivisionError
    assert heard == []
    async with database.tenant(tenant_id) as session:
        await handlers[type(event)].call(session, event, envelope)
    assert heard == [Announcement(tenant_id, event.project_id, 1, 1)]


async def test_another_tenant_reads_nothing(database: Database, tenant_id: uuid.UUID) -> None:
    event = new_event(uuid.uuid4())
    await append(database, tenant_id, event)
    stranger = uuid.uuid4()
    assert await _all(database, FeedKey(stranger, event.project_id)) == []
    assert await _head(database, FeedKey(stranger, event.project_id)) == EMPTY


async def test_the_newest_events_are_kept(database: Database, tenant_id: uuid.UUID) -> None:
    project_id, other_id = uuid.uuid4(), uuid.uuid4()
    few = Retention(keep_events=10, keep_for=timedelta(days=7))
    await append(database, tenant_id, new_event(other_id), retention=few)
    for _ in range(TRIM_EVERY):
        await append(database, tenant_id, new_event(project_id), retention=few)
    kept = await _all(database, FeedKey(tenant_id, project_id))
    assert [event.sequence for event in kept] == list(range(TRIM_EVERY - 9, TRIM_EVERY + 1))
    assert await _head(database, FeedKey(tenant_id, project_id)) == Head(TRIM_EVERY, TRIM_EVERY - 9)
    # The tenant's feed is whole only after the newest event that went; the other project lost nothing.
    assert await _head(database, FeedKey(tenant_id, tenant_id)) == Head(TRIM_EVERY + 1, TRIM_EVERY - 8)
    assert await _head(database, FeedKey(tenant_id, other_id)) == Head(1, 1)
    assert len(await _all(database, FeedKey(tenant_id, other_id))) == 1


async def test_old_events_go_with_the_next_appends(database: Database, tenant_id: uuid.UUID) -> None:
    project_id = uuid.uuid4()
    for _ in range(TRIM_EVERY - 1):
        await append(database, tenant_id, new_event(project_id))
    async with database.tenant(tenant_id) as session:
        long_ago = datetime.now(UTC) - timedelta(days=8)
        await session.execute(update(FeedEvent).where(FeedEvent.sequence <= 50).values(appended_at=long_ago))
    await append(database, tenant_id, new_event(project_id))
    kept = await _all(database, FeedKey(tenant_id, project_id))
    assert kept[0].sequence == 51
    assert await _head(database, FeedKey(tenant_id, project_id)) == Head(TRIM_EVERY, 51)


async def test_a_deleted_tenant_is_forgotten_and_nothing_of_it_is_kept_later(
    database: Database, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = new_event(uuid.uuid4())
    await append(database, tenant_id, event)
    for _ in range(4):
        await append(database, tenant_id, new_event(event.project_id))
    neighbour, kept = uuid.uuid4(), new_event(uuid.uuid4())
    await append(database, neighbour, kept)
    await _end(database, tenant_id)
    late = new_event(event.project_id)
    await append(database, tenant_id, late)
    monkeypatch.setattr(bounded_deletes, "ROWS", 2)
    await erase(database, tenant_id)
    await append(database, tenant_id, late)
    assert await _all(database, FeedKey(tenant_id, event.project_id)) == []
    async with database.tenant(tenant_id) as session:
        assert (await session.scalars(select(models.Feed))).all() == []
    assert len(await _all(database, FeedKey(neighbour, kept.project_id))) == 1


async def test_the_tombstone_waits_for_what_is_being_appended(database: Database, tenant_id: uuid.UUID) -> None:
    event = new_event(uuid.uuid4())
    async with database.tenant(tenant_id) as session:
        await service.append(session, event, retention=RETENTION, announce=unheard)
        ending = asyncio.create_task(_end(database, tenant_id))
        await asyncio.wait([ending], timeout=0.5)
        assert not ending.done(), "an erasure would not see what is committed after it"
    await ending
    await erase(database, tenant_id)
    assert await _all(database, FeedKey(tenant_id, event.project_id)) == []


async def test_a_deleted_documents_name_is_forgotten(database: Database, tenant_id: uuid.UUID) -> None:
    project_id, document_id = uuid.uuid4(), uuid.uuid4()
    about = {"project_id": project_id, "document_id": document_id, "version": 1}
    told = [
        uploaded(project_id, document_id, name="secret plans.md"),
        indexed(project_id, document_id).model_copy(update={"title": "Our secret plans"}),
        DocumentFailed(**about, job_id=uuid.uuid4(), code="corrupt", reason="secret plans.md is damaged."),
        uploaded(project_id, name="other.md"),
        DocumentDeleted(**about),
    ]
    handlers = {handler.event: handler for handler in feed_handlers(RETENTION, unheard)}
    for revision, event in enumerate(told, start=1):
        async with database.tenant(tenant_id) as session:
            await handlers[type(event)].call(session, event, _wrap(tenant_id, event, revision))
    events = await _all(database, FeedKey(tenant_id, project_id))
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
    assert "secret" not in str(events)
    assert events[0].data["size"] == 2048
    assert events[3].data["name"] == "other.md"


@pytest.mark.parametrize("index_first", [False, True])
async def test_a_document_is_purged_once_its_deletion_and_that_of_its_index_are_known(
    database: Database, tenant_id: uuid.UUID, index_first: bool
) -> None:
    project_id, document_id = uuid.uuid4(), uuid.uuid4()
    about = {"project_id": project_id, "document_id": document_id}
    index_purged = IndexPurged(**about, points=1, chunks=1, batches=0)
    ends = [DocumentDeleted(**about, version=1), index_purged]
    handlers = {handler.event: handler for handler in feed_handlers(RETENTION, unheard)}

    async def apply(event: Event, revision: int) -> None:
        async with database.tenant(tenant_id) as session:
            await handlers[type(event)].call(session, event, _wrap(tenant_id, event, revision))

    async def told() -> list[tuple[int, int]]:
        async with database.tenant(tenant_id) as session:
            return [(row.sequence, row.data["entries"]) for row in await session.scalars(select(OutboxEvent))]

    await apply(uploaded(project_id, document_id), 1)
    first, last = reversed(ends) if index_first else ends
    await apply(first, 2)
    assert await told() == []
    for event in (last, first, last):
        await apply(event, 2)
    assert await told() == [(2, 1)]
    await apply(DocumentPurged(**about, version=1, removed={"notifier": {"entries": 1}}), 3)
    await apply(uploaded(project_id, document_id), 1)
    events = await _all(database, FeedKey(tenant_id, project_id))
    assert [event.type for event in events if event.data["revision"] != 2] == ["document.uploaded", "document.purged"]
    assert events[-1].data["removed"] == {"notifier": {"entries": 1}}


async def test_what_indexing_tells_of_a_deleted_tenant_leaves_nothing(database: Database, tenant_id: uuid.UUID) -> None:
    await _end(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        await service.note_purge(session, uuid.uuid4(), uuid.uuid4(), revision=2, index_purged=True)
    async with database.tenant(tenant_id) as session:
        assert (await session.scalars(select(models.DocumentPurge))).all() == []


async def test_a_feed_tells_facts_and_no_more(database: Database, tenant_id: uuid.UUID) -> None:
    project_id, document_id, user_id, job_id = (uuid.uuid4() for _ in range(4))
    about = {"project_id": project_id, "document_id": document_id, "version": 1}
    told = [
        uploaded(project_id, document_id),
        uploaded(project_id, document_id, version=2),
        indexed(project_id, document_id),
        DocumentFailed(**about, job_id=job_id, code="corrupt", reason="The PDF is damaged."),
        DocumentCancelled(**about, job_id=None),
        DocumentUpdated(**about, name="renamed.md", metadata={"secret": 1}),
        ProjectUpdated(project_id=project_id, name="Renamed"),
        ProjectMemberChanged(project_id=project_id, user_id=user_id, role=None, actor_id=user_id),
    ]
    handlers = {handler.event: handler for handler in feed_handlers(RETENTION, unheard)}
    for revision, event in enumerate(told, start=1):
        async with database.tenant(tenant_id) as session:
            await handlers[type(event)].call(session, event, _wrap(tenant_id, event, revision))
    events = await _all(database, FeedKey(tenant_id, project_id))
    assert [event.type for event in events] == [
        "document.uploaded",
        "document.version_added",
        "document.indexed",
        "document.failed",
        "document.cancelled",
        "document.updated",
        "project.updated",
        "member.changed",
    ]
    first, failed, renamed, member = (events[index].data for index in (0, 3, 5, 7))
    assert first["document_id"] == str(document_id)
    assert (first["name"], first["size"], first["content_type"]) == ("notes.md", 2048, "text/markdown")
    assert "metadata" not in first
    assert renamed["name"] == "renamed.md"
    assert "metadata" not in renamed
    assert (failed["code"], failed["reason"], failed["job_id"]) == ("corrupt", "The PDF is damaged.", str(job_id))
    assert (member["user_id"], member["role"], member["document_id"]) == (str(user_id), None, None)


def test_every_fact_shown_is_a_field_of_its_event() -> None:
    for event, shown in SHOWN.items():
        assert shown.facts <= set(event.model_fields), event.type


async def test_models_equal_the_migrated_schema(stack: Stack, database: Database) -> None:
    assert models.Feed.metadata is Base.metadata
    engine = create_async_engine(
        stack.database_url("notifier", Access.OWNER),
        connect_args={"server_settings": {"search_path": "notifier"}},
    )

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": _types_differ})
        both = [Model.metadata, Base.metadata]
        return list(compare_metadata(context, both))  # type: ignore[arg-type]  # Alembic takes several, untyped

    async with engine.connect() as connection:
        found = await connection.run_sync(differences)
    await engine.dispose()
    assert [change for change in found if "alembic_version" not in str(change)] == []


def _types_differ(_context: object, _inspected: object, _mapped: object, there: object, here: object) -> bool | None:
    """`text` and `varchar` without a length are one type under two names; the rest is for Alembic to compare."""
    if isinstance(there, String) and isinstance(here, String) and there.length == here.length:
        return False
    return None


def _wrap(tenant_id: uuid.UUID, event: object, revision: int = 1) -> Envelope:
    return Envelope.wrap(
        event,  # type: ignore[arg-type]  # one of the event classes above
        event_id=uuid.uuid4(),
        tenant_id=tenant_id,
        sequence=revision,
        traceparent=None,
        correlation_id=None,
        causation_id=None,
    )
