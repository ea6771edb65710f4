"""Feeds of runs: in whatever order events arrive, clients see them in that of the run, to its end and no further."""

import asyncio
import random
import uuid
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from services.notifier.feeds.repository import tombstone_tenant
from services.notifier.runs import expiry
from services.notifier.runs.models import RunFeed, RunFeedEvent
from shared.auth import Scope
from shared.events.indexing import (
    RunAnswerRestarted,
    RunDeleted,
    RunEnded,
    RunEvent,
    RunStarted,
    RunTextAdded,
)
from shared.events.projects import ProjectMemberChanged
from shared.tenancy import Database
from tests.services.notifier.feeding import erase
from tests.services.notifier.running import Neighbours, Publish, Replica, Replicas
from tests.services.notifier.sse import Block, Sse
from tests.support.polling import eventually


class Told:
    """A run, and what is told of it."""

    def __init__(self, neighbours: Neighbours, publish: Publish, tenant_id: uuid.UUID, project_id: uuid.UUID) -> None:
        self.run_id, self.project_id, self.tenant_id = uuid.uuid4(), project_id, tenant_id
        self._neighbours = neighbours
        self._publish = publish
        self._ids = {"run_id": self.run_id, "project_id": project_id}
        self.know()

    def know(self, *, status: str = "running", last_sequence: int = 10**6, **facts: Any) -> None:
        """What indexing says of the run."""
        run = {
            "id": str(self.run_id), "status": status, "output": None, "exhausted": None, "error": None,
            "on_disconnect": "continue", "finished_at": None, **facts,
        }  # fmt: skip
        self._neighbours.runs[self.run_id] = {"run": run, "last_sequence": last_sequence}

    def events(self, deltas: int = 5) -> list[RunEvent]:
        return [
            RunStarted(**self._ids, agent="answer", agent_version=1),
            *(RunTextAdded(**self._ids, text=f"{number} ") for number in range(deltas)),
            RunEnded(**self._ids, status="completed", output={"text": "done"}),
        ]

    async def publish(self, event: RunEvent, number: int) -> None:
        await self._publish(self.tenant_id, event, revision=number)

    async def delete(self, number: int) -> None:
        self._neighbours.runs.pop(self.run_id, None)
        await self.publish(RunDeleted(**self._ids), number)

    async def restart(self, number: int) -> None:
        await self.publish(RunAnswerRestarted(**self._ids, reason="takeover"), number)

    @property
    def path(self) -> str:
        return f"/v1/projects/{self.project_id}/runs/{self.run_id}/events"


@pytest.fixture
def told(neighbours: Neighbours, publish: Publish, tenant_id: uuid.UUID) -> Told:
    return Told(neighbours, publish, tenant_id, neighbours.add_project())


def follow(replica: Replica, told: Told, last_event_id: int | None = None, **who: Any) -> Any:
    return Sse.open(replica.client, f"{replica.url}{told.path}", replica.headers(told.tenant_id, last_event_id, **who))


def shown(blocks: list[Block]) -> list[tuple[str, str | None]]:
    return [(block.event, block.id) for block in blocks if block.event]


async def test_a_run_is_shown_in_its_own_order_and_the_stream_ends_with_it(replica: Replica, told: Told) -> None:
    async with follow(replica, told) as stream:
        numbered = list(enumerate(told.events(), start=1))
        random.Random(4).shuffle(numbered)
        for number, event in [*numbered, *numbered]:
            await told.publish(event, number)
        blocks = await stream.end()
    assert shown(blocks) == [
        ("run.started", "1"),
        *(("delta", str(number)) for number in range(2, 7)),
        ("done", "7"),
    ]
    started = next(block for block in blocks if block.event == "run.started")
    assert (started.data["run_id"], started.data["project_id"]) == (str(told.run_id), str(told.project_id))
    assert (started.data["agent"], started.data["sequence"]) == ("answer", 1)


async def test_a_stream_is_resumed_after_every_event_on_another_replica(
    replica: Replica, replicas: Replicas, told: Told
) -> None:
    events = told.events()
    for number, event in enumerate(events, start=1):
        await told.publish(event, number)
    async with replicas(poll_seconds=600) as other:
        for after in range(len(events)):
            async with follow(other, told, after) as stream:
                blocks = await stream.end()
            assert [number for _, number in shown(blocks)] == [str(n) for n in range(after + 1, len(events) + 1)]


async def test_after_the_last_event_there_is_nothing(replica: Replica, told: Told) -> None:
    told.know(status="completed", last_sequence=7)
    headers = replica.headers(told.tenant_id, 7)
    async with replica.client.get(f"{replica.url}{told.path}", headers=headers) as answer:
        assert (answer.status, await answer.read()) == (204, b"")


async def test_a_missing_event_keeps_those_after_it_back(replica: Replica, told: Told) -> None:
    events = told.events(3)
    async with follow(replica, told) as stream:
        for number in (1, 2, 4, 5):
            await told.publish(events[number - 1], number)
        assert [block.id for block in await stream.durable(2)] == ["1", "2"]
        with pytest.raises(TimeoutError):
            await stream.event(within=0.5)
        await told.publish(events[2], 3)
        assert [block.id for block in await stream.durable(3)] == ["3", "4", "5"]


async def test_another_replica_follows_live(replica: Replica, replicas: Replicas, told: Told) -> None:
    async with replicas(poll_seconds=600) as other, follow(other, told) as stream:
        for number, event in enumerate(told.events(), start=1):
            await told.publish(event, number)
        blocks = await stream.end()
    assert [number for _, number in shown(blocks)] == [str(number) for number in range(1, 8)]


async def test_a_feed_that_is_gone_is_a_reset_and_the_final_run(
    replica: Replica, told: Told, database: Database
) -> None:
    events = told.events()
    for number, event in enumerate(events, start=1):
        await told.publish(event, number)
    await _has_come_to(database, told, len(events))
    async with database.tenant(told.tenant_id) as session:
        await session.execute(update(RunFeed).values(due_at=func.now()))

    async def expired() -> bool:
        """Whether it is removed: here, or by the replica, which may have claimed it already."""
        await expiry.expire_one(database)
        async with database.tenant(told.tenant_id) as session:
            return await session.scalar(select(RunFeed.run_id)) is None

    await eventually(expired)
    output = {"text": "done"}
    told.know(status="completed", last_sequence=7, output=output, finished_at="2026-01-01T00:00:00Z")
    async with follow(replica, told, 3) as stream:
        blocks = await stream.end()
    assert shown(blocks) == [("reset", "7"), ("done", "7")]
    assert [block.data["output"] for block in blocks if block.event == "done"] == [output]


async def test_a_deleted_run_is_forgotten_and_its_streams_end(replica: Replica, told: Told, database: Database) -> None:
    async with follow(replica, told) as stream:
        await told.publish(told.events()[0], 1)
        await stream.durable(1)
        await told.delete(2)
        await stream.end()
    await told.publish(told.events()[1], 2)
    await told.publish(told.events()[2], 3)
    async with database.tenant(told.tenant_id) as session:
        assert (await session.scalars(select(RunFeedEvent))).all() == []
    assert await replica.refusal(told.path, replica.headers(told.tenant_id)) == (404, "not_found")


async def test_a_run_of_another_tenant_and_a_missing_one_are_the_same_404(
    replica: Replica, told: Told, neighbours: Neighbours, publish: Publish
) -> None:
    stranger = uuid.uuid4()
    missing = f"/v1/projects/{told.project_id}/runs/{uuid.uuid4()}/events"
    assert await replica.refusal(
        told.path, replica.headers(told.tenant_id, user_id=uuid.uuid4(), tenant_role="member")
    ) == (
        404,
        "not_found",
    )
    assert await replica.refusal(missing, replica.headers(told.tenant_id)) == (404, "not_found")
    elsewhere = Told(neighbours, publish, stranger, uuid.uuid4())
    assert await replica.refusal(elsewhere.path, replica.headers(stranger)) == (404, "not_found")


async def test_to_follow_a_run_takes_the_right_to_search(replica: Replica, told: Told) -> None:
    scopes = [scope for scope in Scope if scope is not Scope.SEARCH]
    assert await replica.refusal(told.path, replica.headers(told.tenant_id, scopes=scopes)) == (403, "forbidden")


async def test_access_removed_ends_the_stream_within_five_seconds(
    replica: Replica, neighbours: Neighbours, publish: Publish, tenant_id: uuid.UUID
) -> None:
    viewer = uuid.uuid4()
    told = Told(neighbours, publish, tenant_id, neighbours.add_project(members={viewer: "viewer"}))
    async with follow(replica, told, user_id=viewer, tenant_role="member") as stream:
        neighbours.projects[told.project_id]["members"] = []
        removed = ProjectMemberChanged(project_id=told.project_id, user_id=viewer, role=None)
        await publish(tenant_id, removed)
        await stream.end(within=5)


async def test_a_run_that_ends_with_its_client_is_cancelled_when_that_leaves(
    replica: Replica, told: Told, neighbours: Neighbours
) -> None:
    told.know(on_disconnect="cancel")
    user = uuid.uuid4()
    async with follow(replica, told, user_id=user):
        pass

    async def was_told() -> bool:
        return neighbours.left == [(told.run_id, str(user))]

    await eventually(was_told)
    neighbours.left.clear()
    told.know(on_disconnect="continue")
    async with follow(replica, told, user_id=user):
        pass
    await asyncio.sleep(0.1)
    assert neighbours.left == []


async def test_a_deleted_tenants_runs_are_forgotten(told: Told, database: Database, replica: Replica) -> None:
    for number, event in enumerate(told.events(), start=1):
        await told.publish(event, number)
    await _has_come_to(database, told, 7)
    async with database.tenant(told.tenant_id) as session:
        await tombstone_tenant(session)
    await erase(database, told.tenant_id)
    await told.restart(8)
    async with database.tenant(told.tenant_id) as session:
        for table in (RunFeed, RunFeedEvent):
            assert (await session.scalars(select(table))).all() == []


async def test_feeds_are_kept_for_some_time_after_their_last_event(told: Told, database: Database) -> None:
    await told.publish(told.events()[0], 1)
    await _has_come_to(database, told, 1)
    async with database.tenant(told.tenant_id) as session:
        due_in = await session.scalar(select(RunFeed.due_at - func.now()))
    assert due_in is not None
    assert timedelta(days=6.9) < due_in <= timedelta(days=7)


async def _has_come_to(database: Database, told: Told, sequence: int) -> None:
    async def there() -> bool:
        async with database.tenant(told.tenant_id) as session:
            return await session.scalar(select(RunFeed.last_sequence)) == sequence

    await eventually(there)
