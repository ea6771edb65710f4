"""Searching and working in processes of their own, over one store."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from services.indexing.main import create_app
from tests.services.indexing.uploads import Library
from tests.support.identity import IdentityDouble
from tests.support.polling import eventually
from tests.support.qdrant_process import KEY, QdrantProcess
from tests.support.serving import in_process

Environment = dict[str, str]
Folders = Callable[[str], Path]
pytestmark = pytest.mark.usefixtures("quiet_queue")


@asynccontextmanager
async def process(environment: Environment, folder: Path, **more: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = {"DATA_DIR": str(folder), **more}
    own = {**environment, **{f"QUARRY_INDEXING_{name}": value for name, value in settings.items()}}
    async with in_process(create_app, own) as (_, client):
        yield client


async def found(client: httpx.AsyncClient, tokens: IdentityDouble, library: Library) -> list[str]:
    answer = await client.post(
        f"/v1/projects/{library.project_id}/search",
        json={"query": "lighthouse"},
        headers=tokens.headers("indexing", tenant_id=library.tenant_id),
    )
    return [item["document_id"] for item in answer.raise_for_status().json()["items"]]


async def indexed(library: Library, document_id: UUID) -> None:
    async def done() -> bool:
        return await library.state(document_id) == "indexed"

    await eventually(done, within=30)


async def ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200


async def test_a_worker_uses_the_engine_of_the_process_that_answers(
    environment: Environment, folders: Folders, library: Library, tokens: IdentityDouble
) -> None:
    """The worker may come first: it is not ready and its jobs wait."""
    folder = folders("apart")
    socket = str(folder / "run" / "vectors.sock")
    async with process(environment, folder / "worker", ROLES="jobs", VECTORS_SOCKET=socket) as worker:
        assert "not answer" in (await worker.get("/readyz")).json()["checks"]["vectors"]
        document_id = await library.upload("the lighthouse keeper")
        async with process(environment, folder / "api", ROLES="http", VECTORS_LISTEN=socket) as api:
            await eventually(lambda: ready(worker))
            await indexed(library, document_id)
            assert await found(api, tokens, library) == [str(document_id)]


async def test_workers_and_searches_share_a_qdrant_server(
    environment: Environment, folders: Folders, library: Library, tokens: IdentityDouble
) -> None:
    async with QdrantProcess.running(folders("qdrant")) as server:
        place = {
            "QDRANT_URL": server.address.url,
            "QDRANT_GRPC_PORT": str(server.address.grpc_port),
            "QDRANT_API_KEY": KEY,
        }
        async with (
            process(environment, folders("worker"), ROLES="jobs", **place),
            process(environment, folders("api"), ROLES="http", **place) as api,
        ):
            document_id = await library.upload("the lighthouse keeper")
            await indexed(library, document_id)
            assert await found(api, tokens, library) == [str(document_id)]

            await server.kill()
            headers = tokens.headers("indexing", tenant_id=library.tenant_id)
            path = f"/v1/projects/{library.project_id}/search"
            answer = await api.post(path, json={"query": "lighthouse"}, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (503, "vector_store_unavailable")
            assert not await ready(api)
