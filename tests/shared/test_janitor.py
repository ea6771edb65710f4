"""The janitor takes away what nobody needs any more, and nothing else."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select, update

from shared import janitor
from shared.background import run_in_background
from shared.inbox import InboxEntry
from shared.janitor import Janitor
from shared.outbox import OutboxEvent
from shared.tenancy import Database
from tests.shared.backbone import STREAM, entries_of, value_of, write
from tests.support.polling import eventually

pytestmark = pytest.mark.usefixtures("fresh_stream")


async def test_old_rows_are_pruned(database: Database, redis_client: Redis, tenant_id: uuid.UUID) -> None:
    await write(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        session.add(
            InboxEntry(event_id=uuid.uuid4(), handler="old", processed_at=datetime.now(UTC) - timedelta(days=9))
        )
    async with database.system() as session:
        old = datetime.now(UTC) - timedelta(days=2)
        await session.execute(
            update(OutboxEvent).where(OutboxEvent.tenant_id == tenant_id).values(published_at=old, entry_id="1-1")
        )
    await Janitor("notifier", database, redis_client, leads=lambda: True).sweep()
    async with database.tenant(tenant_id) as session:
        assert await session.scalar(select(func.count()).select_from(OutboxEvent)) == 0
        assert await session.scalar(select(func.count()).select_from(InboxEntry)) == 0


async def test_only_the_process_whose_relay_leads_sweeps(
    database: Database, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(janitor, "SWEEP_SECONDS", 0.01)
    sweeps = 0
    leads = False

    async def sweep(_: Janitor) -> None:
        nonlocal sweeps
        sweeps += 1
        if sweeps == 1:
            raise ConnectionError("Redis is away")

    monkeypatch.setattr(Janitor, "sweep", sweep)
    async with run_in_background(Janitor("notifier", database, redis_client, leads=lambda: leads).run, name="janitor"):
        await asyncio.sleep(0.1)
        assert sweeps == 0
        leads = True
        await eventually(lambda: value_of(sweeps >= 2))


async def test_consumers_of_ended_processes_are_forgotten_once_nothing_is_left_of_them(
    database: Database, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = "events.projects"
    await redis_client.xadd(stream, {"event": b"{}"})
    await redis_client.xgroup_create(stream, "notifier", id="0")
    await redis_client.xreadgroup("notifier", "busy", {stream: ">"})
    await redis_client.xgroup_createconsumer(stream, "notifier", "gone")
    swept = Janitor("notifier", database, redis_client, leads=lambda: True)
    await swept.sweep()
    assert await consumers(redis_client, stream) == {b"busy", b"gone"}
    monkeypatch.setattr(janitor, "KEEP_CONSUMERS", timedelta(milliseconds=1))
    await asyncio.sleep(0.01)
    await swept.sweep()
    assert await consumers(redis_client, stream) == {b"busy"}


async def test_sweeping_trims_the_stream_of_the_service(
    database: Database, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "SUBSCRIBERS", {"notifier": ("reader",)})
    ids = [f"{number}-0" for number in (1, 2, 3)]
    for entry_id in ids:
        await redis_client.xadd(STREAM, {"event": b"{}"}, id=entry_id)
    await redis_client.xgroup_create(STREAM, "reader", id="0")
    await redis_client.xreadgroup("reader", "one", {STREAM: ">"})
    await redis_client.xack(STREAM, "reader", *ids)
    await Janitor("notifier", database, redis_client, leads=lambda: True).sweep()
    assert [entry_id for entry_id, _ in await entries_of(redis_client)] == [b"3-0"]


async def consumers(redis: Redis, stream: str) -> set[bytes]:
    found: Any = await redis.xinfo_consumers(stream, "notifier")
    return {consumer["name"] for consumer in found}
