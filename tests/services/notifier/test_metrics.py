"""What the notifier tells Prometheus of its streams."""

import uuid

from services.notifier.streams.connections import Connections
from services.notifier.streams.metrics import StreamReadings
from shared.metrics import Metrics
from shared.tenancy import Database
from tests.services.notifier.feeding import append, new_event
from tests.services.notifier.running import Neighbours, Replica, Replicas
from tests.shared.test_metrics import value, values
from tests.support.polling import eventually


async def scrape(replica: Replica) -> str:
    async with replica.client.get(f"{replica.url}/metrics") as answer:
        return await answer.text()


async def test_open_streams_and_their_frames_are_told(
    replicas: Replicas, neighbours: Neighbours, database: Database, tenant_id: uuid.UUID
) -> None:
    project_id = neighbours.add_project()
    await append(database, tenant_id, new_event(project_id))
    async with replicas() as replica:
        assert value(await scrape(replica), "quarry_sse_open") == 0
        async with (
            replica.listen(tenant_id, project_id, last_event_id=0) as one,
            replica.listen(tenant_id, project_id) as other,
        ):
            # The greeting, what was missed, and the snapshot; the other has missed nothing.
            assert [(await one.event()).event for _ in range(2)] == ["document.uploaded", "snapshot"]
            await other.live()
            text = await scrape(replica)
            assert value(text, "quarry_sse_open") == 2
            assert value(text, "quarry_sse_frames_total") == 5
            assert values(text, "quarry_sse_ended_total") == {}

        async def both_gone() -> bool:
            return value(await scrape(replica), "quarry_sse_open") == 0

        await eventually(both_gone)
        text = await scrape(replica)
        assert value(text, "quarry_sse_ended_total", reason="gone") == 2
        # A goodbye to each as well, though nobody reads it any more.
        assert value(text, "quarry_sse_frames_total") == 7
        assert str(tenant_id) not in text


async def test_streams_that_were_cut_off_are_told_by_their_reason(
    replicas: Replicas, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    project_id = neighbours.add_project()
    async with replicas() as replica:
        async with replica.listen(tenant_id, project_id) as stream:
            await stream.live()
            for connection in replica.streaming.connections:
                connection.end("too slow", at_once=True)
            assert (await stream.end())[-1].comments == ["too slow"]
        assert await replica.refusal(f"/v1/projects/{uuid.uuid4()}/events", replica.headers(tenant_id)) == (
            404,
            "not_found",
        )
        assert await told(replica.streaming.connections) == {"too_slow": 1, "not_opened": 1}


async def told(connections: Connections) -> dict[str, float]:
    metrics = Metrics("notifier")
    with metrics.including(StreamReadings(connections)):
        text = await metrics.exposition()
    return {dict(labels)["reason"]: number for labels, number in values(text, "quarry_sse_ended_total").items()}
