"""One image, scaled apart: a process has what its roles need, and no more."""

import uuid
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.indexing.dependencies import Resources
from services.indexing.main import create_app
from services.indexing.search.dependencies import SearchResources
from shared.redis_clients import stream_of
from tests.services.indexing.uploads import Library
from tests.support.identity import IdentityDouble
from tests.support.polling import eventually
from tests.support.serving import in_process

Environment = dict[str, str]
pytestmark = pytest.mark.usefixtures("quiet_queue")


async def test_a_process_that_only_listens_queues_jobs_and_takes_none(
    environment: Environment, redis_client: Redis, library: Library
) -> None:
    async with in_process(create_app, {**environment, "QUARRY_INDEXING_ROLES": "events"}) as (app, client):
        assert not isinstance(app.resources(Resources), SearchResources)
        known, document_id = uuid.uuid4(), uuid.uuid4()
        envelope = await library.announce(library.uploaded("text", document_id=known), sequence=1)
        other = library.uploaded("text", document_id=document_id).model_dump(mode="json")
        another = envelope.model_copy(update={"id": uuid.uuid4(), "data": other})
        await redis_client.xadd(stream_of("projects"), {"event": another.to_json()})

        async def queued() -> bool:
            return [job.state for job in await library.jobs(document_id)] == ["queued"]

        await eventually(queued)
        assert (await client.post(f"/v1/projects/{library.project_id}/search", json={})).status_code == 404


async def test_a_process_that_only_answers_searches_and_takes_no_job(
    environment: Environment, library: Library, tokens: IdentityDouble, tmp_path: Path
) -> None:
    own = {**environment, "QUARRY_INDEXING_ROLES": "http", "QUARRY_INDEXING_DATA_DIR": str(tmp_path)}
    async with in_process(create_app, own) as (app, client):
        document_id = await library.upload("text")
        app.resources(Resources).wake()
        answer = await client.post(
            f"/v1/projects/{library.project_id}/search",
            json={"query": "text"},
            headers=tokens.headers("indexing", tenant_id=library.tenant_id),
        )
        assert (answer.status_code, answer.json()["items"]) == (200, [])
        checks = (await client.get("/readyz")).json()["checks"]
        assert "vectors" in checks
        assert not {"jobs", "streams"} & set(checks)
        assert await library.state(document_id) == "queued"


async def test_a_worker_offers_no_interface_and_does_the_jobs_that_others_queued(
    environment: Environment, library: Library, tokens: IdentityDouble, tmp_path: Path
) -> None:
    document_id = await library.upload("text")
    own = {**environment, "QUARRY_INDEXING_ROLES": "events,jobs", "QUARRY_INDEXING_DATA_DIR": str(tmp_path)}
    async with in_process(create_app, own) as (_, client):

        async def done() -> bool:
            return await library.state(document_id) == "indexed"

        await eventually(done, within=20)
        later = await library.upload("more text")

        async def later_too() -> bool:
            return await library.state(later) == "indexed"

        await eventually(later_too, within=20)
        ready = await client.get("/readyz")
        assert (ready.status_code, {"vectors", "jobs", "streams"} - set(ready.json()["checks"])) == (200, set())
        path = f"/v1/projects/{library.project_id}/search"
        headers = tokens.headers("indexing", tenant_id=library.tenant_id)
        assert (await client.post(path, json={"query": "text"}, headers=headers)).status_code == 404
