"""Producers and consumers of different versions, side by side: what is added is ignored, what is another language is
kept for later, and neither stops the entries behind it."""

import uuid
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from infra.local.stack import Stack
from shared.dead_letters import DeadLetter
from shared.events.envelope import Envelope
from shared.handlers import Handler
from shared.stream_consumer import Consumer
from shared.tenancy import Database
from tests.shared.events import NoteWritten
from tests.support.polling import eventually

STREAM = "events.notifier"


@pytest.fixture(autouse=True)
async def fresh_stream(redis_client: Redis) -> None:
    await redis_client.flushdb()


def entry(tenant_id: uuid.UUID, **overrides: Any) -> dict[str, Any]:
    """An envelope of `NoteWritten`, with other attributes or more."""
    envelope = Envelope.wrap(
        NoteWritten(note_id=uuid.uuid4()),
        event_id=uuid.uuid4(),
        tenant_id=tenant_id,
        sequence=1,
        traceparent=None,
        correlation_id=None,
        causation_id=None,
    )
    return {**orjson.loads(envelope.to_json()), **overrides}


async def sent(redis: Redis, content: dict[str, Any]) -> str:
    """The id of the stream entry."""
    entry_id: Any = await redis.xadd(STREAM, {"event": orjson.dumps(content)})
    return str(entry_id, "ascii")


async def consumed(
    stack: Stack, database: Database, redis: Redis, notes: list[dict[str, Any]]
) -> tuple[list[NoteWritten], list[str]]:
    """What a service that knows `NoteWritten` makes of the entries: the events it handled, and the entries' ids."""
    handled: list[NoteWritten] = []

    async def handle(session: AsyncSession, event: NoteWritten, envelope: Envelope) -> None:
        handled.append(event)

    ids = [await sent(redis, note) for note in notes]
    consumer = Consumer("notifier", stack.redis.url(), database, [Handler(NoteWritten, handle, "tests.versions")])
    await consumer.start()
    try:
        await eventually(lambda: _all_acknowledged(redis, ids[-1]))
    finally:
        await consumer.stop()
    return handled, ids


async def _all_acknowledged(redis: Redis, last: str) -> bool:
    groups: Any = await redis.xinfo_groups(STREAM)
    return any(group["last-delivered-id"].decode() == last and not group["pending"] for group in groups)


async def letters(database: Database, ids: list[str]) -> dict[str, DeadLetter]:
    async with database.system() as session:
        found = (await session.scalars(select(DeadLetter).where(DeadLetter.entry_id.in_(ids)))).all()
    return {letter.entry_id: letter for letter in found}


async def test_a_consumer_of_an_older_version_ignores_what_was_added(
    stack: Stack, database: Database, redis_client: Redis, tenant_id: uuid.UUID
) -> None:
    newer = entry(tenant_id, newattribute="x", another=[1, {"deep": True}])
    newer["data"] |= {"added_later": {"of": "any shape"}, "and_more": None}
    handled, ids = await consumed(stack, database, redis_client, [newer, entry(tenant_id)])
    assert str(handled[0].note_id) == newer["data"]["note_id"]
    assert len(handled) == 2
    assert await letters(database, ids) == {}


async def test_an_unknown_major_version_goes_to_the_dead_letters_and_blocks_nobody(
    stack: Stack, database: Database, redis_client: Redis, tenant_id: uuid.UUID
) -> None:
    unknown = entry(tenant_id, type="notifier.note.written.v2", data={"another": "shape"})
    handled, ids = await consumed(stack, database, redis_client, [entry(tenant_id), unknown, entry(tenant_id)])
    assert len(handled) == 2
    found = await letters(database, ids)
    assert list(found) == [ids[1]]
    letter = found[ids[1]]
    assert letter.handler == "decode"
    assert "unknown version" in letter.reason
    assert "notifier.note.written.v2" in letter.reason
    assert orjson.loads(letter.payload) == unknown
    assert (letter.stream, letter.consumer_group, letter.attempts) == (STREAM, "notifier", 1)


async def test_an_event_nobody_here_handles_is_no_dead_letter(
    stack: Stack, database: Database, redis_client: Redis, tenant_id: uuid.UUID
) -> None:
    others = [entry(tenant_id, type=kind) for kind in ("notifier.note.read.v1", "notifier.notes.written.v2")]
    handled, ids = await consumed(stack, database, redis_client, [*others, entry(tenant_id)])
    assert len(handled) == 1
    assert await letters(database, ids) == {}


async def test_data_that_no_longer_fits_its_version_goes_to_the_dead_letters(
    stack: Stack, database: Database, redis_client: Redis, tenant_id: uuid.UUID
) -> None:
    """As a producer would send it that renamed a field instead of declaring a new version."""
    renamed = entry(tenant_id)
    renamed["data"] = {"id": renamed["data"]["note_id"]}
    handled, ids = await consumed(stack, database, redis_client, [renamed, entry(tenant_id)])
    assert len(handled) == 1
    assert (await letters(database, ids))[ids[0]].handler == "decode"
