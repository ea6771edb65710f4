"""One client and one replica: greeting, replay, snapshot, live events, refusals."""

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from services.notifier.feeds import repository
from services.notifier.streams.service import parse_event_id
from shared.auth import Scope
from shared.events.indexing import ProgressTick
from shared.events.projects import DocumentDeleted, ProjectDeleted
from shared.redis_clients import PROGRESS_STREAM
from shared.tenancy import Database
from tests.services.notifier.feeding import append, indexed, new_event, uploaded
from tests.services.notifier.running import Neighbours, Publish, Replica, Replicas, Who
from tests.support.polling import eventually

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def tick(tenant_id: uuid.UUID, project_id: uuid.UUID, document_id: uuid.UUID, percent: int) -> ProgressTick:
    return ProgressTick(
        tenant_id=tenant_id, project_id=project_id, document_id=document_id, job_id=uuid.uuid4(), stage="embedding",
        percent=percent, done=percent, total=100, unit="chunks", time=datetime.now(UTC),
    )  # fmt: skip


async def send_tick(redis: Redis, value: ProgressTick) -> None:
    await redis.xadd(PROGRESS_STREAM, {"tick": value.model_dump_json()})


async def test_a_stream_says_at_once_that_it_is_open(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    project_id = neighbours.add_project()
    async with replica.listen(tenant_id, project_id) as stream:
        assert stream.answer.headers["Content-Type"] == "text/event-stream"
        assert stream.answer.headers["Cache-Control"] == "no-store"
        assert stream.answer.headers["X-Accel-Buffering"] == "no"
        greeting = await stream.block()
        assert (greeting.retry, greeting.id, greeting.data) == (2000, "0", None)
        snapshot = await stream.event()
        assert (snapshot.event, snapshot.id) == ("snapshot", None)
        assert snapshot.data["jobs"] == []
        assert snapshot.data["complete"] is True


async def test_an_upload_is_told_with_its_facts_and_its_trace(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish
) -> None:
    project_id, document_id = neighbours.add_project(), uuid.uuid4()
    async with replica.listen(tenant_id, project_id) as stream:
        await stream.live()
        name = "two\nlines\r\n\nid: 99 \u2028.md"
        envelope = await publish(tenant_id, uploaded(project_id, document_id, name=name), revision=7, traceparent=TRACE)
        await publish(tenant_id, indexed(project_id, document_id), revision=8)
        first, second = await stream.durable(2)
    assert (first.event, first.id) == ("document.uploaded", "1")
    assert first.data.pop("traceparent").split("-")[1] == TRACE.split("-")[1]
    assert first.data.pop("created_at")
    assert datetime.fromisoformat(first.data.pop("time")) == envelope.time
    assert first.data == {
        "type": "document.uploaded",
        "sequence": 1,
        "tenant_id": str(tenant_id),
        "project_id": str(project_id),
        "document_id": str(document_id),
        "actor_id": None,
        "version": 1,
        "name": name,
        "content_type": "text/markdown",
        "size": 2048,
        "revision": 7,
    }
    assert (second.event, second.id, second.data["chunk_count"]) == ("document.indexed", "2", 3)


async def test_the_same_event_twice_is_told_once(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish, redis_client: Redis
) -> None:
    project_id = neighbours.add_project()
    async with replica.listen(tenant_id, project_id) as stream:
        await stream.live()
        envelope = await publish(tenant_id, uploaded(project_id))
        await redis_client.xadd("events.projects", {"event": envelope.to_json()})
        other = await publish(tenant_id, uploaded(project_id))
        told = await stream.durable(2)
    assert [block.id for block in told] == ["1", "2"]
    assert told[1].data["document_id"] == str(other.data["document_id"])


@pytest.mark.parametrize("by_header", [True, False])
async def test_a_client_resumes_exactly_after_the_id_it_names(
    replica: Replica,
    database: Database,
    neighbours: Neighbours,
    tenant_id: uuid.UUID,
    publish: Publish,
    by_header: bool,
) -> None:
    project_id = neighbours.add_project()
    for _ in range(6):
        await append(database, tenant_id, new_event(project_id))
    header, query = (2, "?last_event_id=5") if by_header else (None, "?last_event_id=2")
    async with replica.listen(tenant_id, project_id, last_event_id=header, query=query) as stream:
        missed = [await stream.event() for _ in range(4)]
        assert [block.id for block in missed] == ["3", "4", "5", "6"]
        snapshot = await stream.event()
        assert (snapshot.event, snapshot.data["sequence"]) == ("snapshot", 6)
        await publish(tenant_id, uploaded(project_id))
        assert (await stream.event()).id == "7"


async def test_a_client_that_has_seen_nothing_yet_resumes_without_a_gap(
    replica: Replica, database: Database, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    project_id = neighbours.add_project()
    await append(database, tenant_id, new_event(project_id))
    async with replica.listen(tenant_id, project_id) as stream:
        await stream.live()
    assert stream.last_event_id == "1"
    await append(database, tenant_id, new_event(project_id))
    async with replica.listen(tenant_id, project_id, last_event_id=stream.last_event_id) as stream:
        assert [block.id for block in await stream.durable(1)] == ["2"]


async def test_a_long_absence_is_told_page_by_page(
    replica: Replica, database: Database, neighbours: Neighbours, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.notifier.streams.service._REPLAYED_AT_ONCE", 4)
    project_id = neighbours.add_project()
    for _ in range(11):
        await append(database, tenant_id, new_event(project_id))
    async with replica.listen(tenant_id, project_id, last_event_id=0) as stream:
        assert [block.id for block in await stream.durable(11)] == [str(n) for n in range(1, 12)]
        assert (await stream.event()).event == "snapshot"


async def test_a_tenant_that_has_everything_told_again_and_again_leaves_others_their_place(
    replica: Replica, database: Database, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    project_id = neighbours.add_project()
    await append(database, tenant_id, new_event(project_id))
    replays, greedy, inside = replica.streaming.replays, uuid.uuid4(), 0

    async def replay() -> None:
        nonlocal inside
        async with replays.turn(greedy):
            inside += 1
            await asyncio.Event().wait()

    again = [asyncio.create_task(replay()) for _ in range(20)]
    try:
        async with replica.listen(tenant_id, project_id, last_event_id=0) as stream:
            assert [block.id for block in await stream.durable(1)] == ["1"]
        assert inside == 1
    finally:
        for task in again:
            task.cancel()
        await asyncio.gather(*again, return_exceptions=True)


async def test_neither_gap_nor_duplicate_between_replay_and_live(
    replica: Replica, database: Database, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish
) -> None:
    project_id = neighbours.add_project()
    total = 40

    async def feed() -> None:
        for _ in range(total):
            await publish(tenant_id, uploaded(project_id))

    async def follow() -> list[str | None]:
        seen: list[str | None] = []
        while len(seen) < total:
            async with replica.listen(tenant_id, project_id, last_event_id=len(seen)) as stream:
                seen.extend(block.id for block in await stream.durable(min(7, total - len(seen))))
        return seen

    results = await asyncio.gather(feed(), *(follow() for _ in range(4)))
    for seen in results[1:]:
        assert seen == [str(n) for n in range(1, total + 1)]


@pytest.mark.parametrize("last_event_id", ["7", "9" * 40])
async def test_an_id_from_the_future_is_answered_with_a_reset(
    replica: Replica, database: Database, neighbours: Neighbours, tenant_id: uuid.UUID, last_event_id: str
) -> None:
    project_id = neighbours.add_project()
    await append(database, tenant_id, new_event(project_id))
    async with replica.listen(tenant_id, project_id, last_event_id=last_event_id) as stream:
        reset = await stream.event()
        assert (reset.event, reset.id, reset.data["sequence"]) == ("reset", "1", 1)
        assert (await stream.event()).event == "snapshot"


async def test_trimmed_history_is_answered_with_a_reset(
    replica: Replica, database: Database, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish
) -> None:
    project_id = neighbours.add_project()
    for _ in range(5):
        await append(database, tenant_id, new_event(project_id))
    async with database.tenant(tenant_id) as session:
        await repository.drop_until(session, project_id, floor=3)
    async with replica.listen(tenant_id, project_id, last_event_id=2) as stream:
        reset = await stream.event()
        assert (reset.event, reset.id) == ("reset", "5")
        await stream.live()
        await publish(tenant_id, uploaded(project_id))
        assert (await stream.event()).id == "6"
    async with replica.listen(tenant_id, project_id, last_event_id=3) as stream:
        assert [block.id for block in await stream.durable(3)] == ["4", "5", "6"]


async def test_history_trimmed_during_the_replay_is_answered_with_a_reset(
    replica: Replica,
    database: Database,
    neighbours: Neighbours,
    tenant_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project_id = neighbours.add_project()
    for _ in range(6):
        await append(database, tenant_id, new_event(project_id))
    read = repository.events_between

    async def read_while_trimmed(*arguments: Any, **options: Any) -> Any:
        events = await read(*arguments, **options)
        async with database.tenant(tenant_id) as session:
            await repository.drop_until(session, project_id, floor=4)
        return events

    monkeypatch.setattr(repository, "events_between", read_while_trimmed)
    async with replica.listen(tenant_id, project_id, last_event_id=0) as stream:
        reset = await stream.event()
        assert (reset.event, reset.id) == ("reset", "6")
        assert (await stream.event()).event == "snapshot"


async def test_the_snapshot_holds_the_running_jobs(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    project_id = neighbours.add_project()
    job = {
        "job_id": str(uuid.uuid4()), "document_id": str(uuid.uuid4()), "version": 2, "stage": "embedding",
        "percent": 40, "done": 4, "total": 10, "unit": "chunks",
    }  # fmt: skip
    neighbours.jobs[project_id] = [{**job, "lease": "stays inside"}]
    async with replica.listen(tenant_id, project_id) as stream:
        snapshot = await stream.event("snapshot")
    assert snapshot.data["jobs"] == [job]
    assert snapshot.data["complete"] is True


async def test_an_incomplete_snapshot_says_so_when_indexing_is_away(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    project_id = neighbours.add_project()
    monkeypatch.setattr(neighbours, "indexing_status", 503)
    async with replica.listen(tenant_id, project_id) as stream:
        snapshot = await stream.event("snapshot")
    assert (snapshot.data["complete"], snapshot.data["jobs"]) == (False, [])


async def test_progress_carries_no_id_and_reaches_its_project_only(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID, redis_client: Redis
) -> None:
    project_id, other_id, document_id = neighbours.add_project(), neighbours.add_project(), uuid.uuid4()
    async with replica.listen(tenant_id, project_id) as stream, replica.listen(tenant_id) as wide:
        await stream.live()
        await wide.live()
        await send_tick(redis_client, tick(uuid.uuid4(), project_id, document_id, 1))
        await send_tick(redis_client, tick(tenant_id, other_id, document_id, 2))
        sent = tick(tenant_id, project_id, document_id, 3)
        await send_tick(redis_client, sent)
        heard = await stream.event()
        assert (heard.event, heard.id) == ("job.progressed", None)
        assert heard.data["job_id"] == str(sent.job_id)
        assert heard.data["percent"] == 3
        assert (heard.data["stage"], heard.data["done"], heard.data["total"]) == ("embedding", 3, 100)
        assert [(await wide.event()).data["percent"] for _ in range(2)] == [2, 3]


async def test_malformed_ticks_do_not_stop_progress(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID, redis_client: Redis
) -> None:
    project_id = neighbours.add_project()
    about = {"tenant_id": str(tenant_id), "project_id": str(project_id)}
    async with replica.listen(tenant_id, project_id) as stream:
        await stream.live()
        for raw in (b"{", b"[]", b'{"tenant_id": 7}', orjson.dumps({**about, "percent": 400})):
            await redis_client.xadd(PROGRESS_STREAM, {"tick": raw})
        await redis_client.xadd(PROGRESS_STREAM, {"other": b""})
        await send_tick(redis_client, tick(tenant_id, project_id, uuid.uuid4(), 50))
        assert (await stream.event()).data["percent"] == 50


async def test_quiet_streams_get_heartbeats_without_an_id(
    replicas: Replicas, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    project_id = neighbours.add_project()
    async with replicas(heartbeat_seconds=0.2) as replica, replica.listen(tenant_id, project_id) as stream:
        await stream.live()
        beats = [await stream.block(within=3) for _ in range(2)]
        assert [(beat.comments, beat.id, beat.event) for beat in beats] == [([""], None, None)] * 2


async def test_a_stream_ends_after_a_while_and_says_when_to_return(
    replicas: Replicas, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    async with replicas(stream_seconds=0.3, heartbeat_seconds=0.4) as replica:
        async with replica.listen(tenant_id, neighbours.add_project()) as stream:
            blocks = await stream.end()
        assert blocks[-1].comments == ["resume"]
        assert blocks[-1].retry is not None
        assert 1000 <= blocks[-1].retry <= 4000
        await eventually(lambda: _is_empty(replica))


async def _is_empty(replica: Replica) -> bool:
    return len(replica.streaming.connections) == 0


async def test_nothing_is_kept_of_clients_that_have_gone(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    project_id = neighbours.add_project()
    connections = replica.streaming.connections
    for _ in range(5):
        async with replica.listen(tenant_id, project_id) as stream:
            await stream.live()
            assert len(connections.of_tenant(tenant_id)) >= 1

    async def gone() -> bool:
        return not connections.of_tenant(tenant_id)

    await eventually(gone)


async def test_draining_ends_streams_and_refuses_new_ones(
    replicas: Replicas, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    project_id = neighbours.add_project()
    async with replicas() as replica, replica.listen(tenant_id, project_id) as stream:
        await stream.live()
        replica.streaming.connections.drain()
        assert (await stream.end())[-1].comments == ["restarting"]
        path = f"/v1/projects/{project_id}/events"
        assert await replica.refusal(path, replica.headers(tenant_id)) == (503, "streams_exhausted")


# --- refusals --------------------------------------------------------------------------------------------------------


async def test_anonymous_is_refused(replica: Replica, neighbours: Neighbours) -> None:
    project_id = neighbours.add_project()
    for path in (f"/v1/projects/{project_id}/events", "/v1/events", "/v1/events?last_event_id=nonsense"):
        assert await replica.refusal(path, {}) == (401, "unauthenticated")


async def test_a_token_of_another_audience_is_refused(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    headers = replica.tokens.headers("projects", tenant_id=tenant_id)
    assert await replica.refusal("/v1/events", headers) == (401, "unauthenticated")


async def test_without_a_tenant_there_is_no_stream(replica: Replica) -> None:
    assert await replica.refusal("/v1/events", replica.headers(None)) == (403, "forbidden")


async def test_another_tenants_project_and_a_missing_one_are_the_same_404(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    project_id, stranger = neighbours.add_project(), uuid.uuid4()
    async with replica.listen(tenant_id, project_id) as stream:
        await stream.live()
    del neighbours.projects[project_id]
    missing = f"/v1/projects/{uuid.uuid4()}/events"
    foreign = f"/v1/projects/{project_id}/events"
    own_tenant = f"/v1/projects/{stranger}/events"
    for path in (missing, foreign, own_tenant):
        assert await replica.refusal(path, replica.headers(stranger)) == (404, "not_found")


async def test_a_member_needs_a_role_in_the_project(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    viewer, outsider = uuid.uuid4(), uuid.uuid4()
    project_id = neighbours.add_project(members={viewer: "viewer"})
    path = f"/v1/projects/{project_id}/events"
    outside = replica.headers(tenant_id, user_id=outsider, tenant_role="member")
    assert await replica.refusal(path, outside) == (404, "not_found")
    async with replica.listen(tenant_id, project_id, user_id=viewer, tenant_role="member") as stream:
        await stream.live()


async def test_a_credential_needs_the_scope(replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID) -> None:
    project_id = neighbours.add_project()
    headers = replica.headers(tenant_id, scopes=[Scope.SEARCH])
    for path in (f"/v1/projects/{project_id}/events", "/v1/events"):
        assert await replica.refusal(path, headers) == (403, "forbidden")


@pytest.mark.parametrize("value", ["abc", "-1", "1.5", "1 2", "9" * 41, "%0A1", "1%0Adata:x", "%D9%A3", "0x10"])
async def test_a_malformed_id_is_refused(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID, value: str
) -> None:
    path = f"/v1/projects/{neighbours.add_project()}/events?last_event_id={value}"
    assert await replica.refusal(path, replica.headers(tenant_id)) == (400, "invalid_event_id")


def test_an_empty_id_is_none_at_all() -> None:
    assert parse_event_id("") is None
    assert parse_event_id("007") == 7


async def test_a_project_nobody_can_tell_about_is_unavailable(
    replicas: Replicas, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    async with replicas(projects_url="http://127.0.0.1:1") as replica:
        path = f"/v1/projects/{neighbours.add_project()}/events"
        assert await replica.refusal(path, replica.headers(tenant_id)) == (503, "unavailable")
        assert len(replica.streaming.connections) == 0


async def test_there_are_only_so_many_streams(replicas: Replicas, neighbours: Neighbours, tenant_id: uuid.UUID) -> None:
    path = f"/v1/projects/{neighbours.add_project()}/events"
    key, other_tenant = uuid.uuid4(), uuid.uuid4()
    async with replicas(max_streams=3, max_streams_per_tenant=2, max_streams_per_caller=1) as replica:
        async with replica.listen(tenant_id, credential_id=key):
            again = replica.headers(tenant_id, credential_id=key)
            assert await replica.refusal(path, again) == (429, "too_many_streams")
            async with replica.listen(tenant_id):
                assert await replica.refusal(path, replica.headers(tenant_id)) == (429, "too_many_streams")
                async with replica.listen(other_tenant):
                    assert await replica.refusal(path, replica.headers(uuid.uuid4())) == (503, "streams_exhausted")
        await eventually(lambda: _is_empty(replica))
        async with replica.listen(tenant_id, credential_id=key) as stream:
            await stream.live()


# --- the tenant's feed -----------------------------------------------------------------------------------------------


async def test_an_admin_sees_all_projects_in_one_order(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish
) -> None:
    one, two = neighbours.add_project(), neighbours.add_project()
    async with replica.listen(tenant_id) as stream:
        await stream.live()
        for project_id in (one, two, one):
            await publish(tenant_id, uploaded(project_id))
        told = await stream.durable(3)
    assert [block.id for block in told] == ["1", "2", "3"]
    assert [block.data["sequence"] for block in told] == [1, 2, 3]
    assert {block.data["project_id"] for block in told} == {str(one), str(two)}
    async with replica.listen(tenant_id, last_event_id=1) as stream:
        assert [block.id for block in await stream.durable(2)] == ["2", "3"]


async def test_a_member_sees_its_own_projects_live_and_replayed(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish, redis_client: Redis
) -> None:
    member = uuid.uuid4()
    mine, other = neighbours.add_project(members={member: "viewer"}), neighbours.add_project()
    who: Who = {"user_id": member, "tenant_role": "member"}
    async with replica.listen(tenant_id, mine, **who) as stream:
        await stream.live()
    async with replica.listen(tenant_id, **who) as stream, replica.listen(tenant_id) as admin:
        await stream.live()
        await admin.live()
        await send_tick(redis_client, tick(tenant_id, other, uuid.uuid4(), 1))
        for project_id in (other, mine, other, mine):
            await publish(tenant_id, uploaded(project_id))
        everything = await admin.durable(4)
        mine_only = [block.id for block in everything if block.data["project_id"] == str(mine)]
        told = [await stream.event(), await stream.event()]
        assert [block.id for block in told] == mine_only
    async with replica.listen(tenant_id, last_event_id=0, **who) as stream:
        assert [(await stream.event()).id for _ in range(2)] == mine_only
        assert (await stream.event()).event == "snapshot"


async def test_a_key_tied_to_a_project_sees_that_project_only(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish
) -> None:
    mine, other = neighbours.add_project(), neighbours.add_project()
    async with replica.listen(tenant_id, tied_to=mine) as stream:
        await stream.live()
        await publish(tenant_id, uploaded(other))
        await publish(tenant_id, uploaded(mine))
        assert (await stream.event()).data["project_id"] == str(mine)
    path = f"/v1/projects/{other}/events"
    assert await replica.refusal(path, replica.headers(tenant_id, tied_to=mine)) == (404, "not_found")


async def test_deletions_are_told(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish
) -> None:
    project_id, document_id = neighbours.add_project(), uuid.uuid4()
    async with replica.listen(tenant_id, project_id) as stream:
        await stream.live()
        await publish(tenant_id, DocumentDeleted(project_id=project_id, document_id=document_id, version=1))
        await publish(tenant_id, ProjectDeleted(project_id=project_id))
        assert [(await stream.event()).event for _ in range(2)] == ["document.deleted", "project.deleted"]
        await stream.end(within=5)
    assert await replica.refusal(f"/v1/projects/{project_id}/events", replica.headers(tenant_id)) == (404, "not_found")
