"""The whole system as its users meet it: real processes, reached through the gateway."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from infra.local.home import Home
from infra.local.services import ServiceProcess
from infra.local.stack import Stack
from shared.topology import SERVICES
from tests.support.polling import eventually
from tests.support.servers import servers
from tests.support.stacks import migrate_all
from tests.support.tenants import first_tenant

Json = dict[str, Any]


class System:
    """A running system. Its parts may be killed and started again."""

    def __init__(self, stack: Stack, services: Mapping[str, ServiceProcess], clients: AsyncExitStack) -> None:
        self.stack = stack
        self.services = services
        self._clients = clients

    @property
    def url(self) -> str:
        return self.services["gateway"].url

    async def tenant(self, name: str) -> tuple[str, httpx.AsyncClient]:
        """A new tenant's id, and a client that holds an API key of its owner."""
        made = await first_tenant(self.stack, name, f"{name}@example.test")
        return made.tenant_id, await self.client(made.api_key)

    async def client(self, credential: str | None = None) -> httpx.AsyncClient:
        """A client of the gateway; anonymous without a credential."""
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        limits = httpx.Limits(max_connections=100)
        client = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30, limits=limits)
        return await self._clients.enter_async_context(client)

    async def restart(self, name: str) -> None:
        """Start a service that was killed, and wait until it is ready."""
        await self.services[name].start()
        await self.services[name].wait_ready()


@asynccontextmanager
async def running_system(
    folder: Path, *, durable: bool = False, extra: Mapping[str, Mapping[str, str]] | None = None
) -> AsyncIterator[System]:
    """Start everything in `folder`; `extra` adds to the environment of single services."""
    shared = {"QUARRY_LOG_FORMAT": "json"}
    async with AsyncExitStack() as clients:
        # Beside the data, for whoever looks into a failure.
        log = clients.enter_context((folder / "system.log").open("w", buffering=1, encoding="utf-8"))
        stack = Stack(
            Home(folder),
            durable=durable,
            on_line=lambda name, line: print(f"{name} | {line}", file=log),
            servers=servers(),
        )
        await clients.enter_async_context(stack)
        await migrate_all(stack)
        services = {name: stack.service(name, {**shared, **(extra or {}).get(name, {})}) for name in SERVICES}
        await asyncio.gather(*(service.start() for service in services.values()))
        await asyncio.gather(*(service.wait_ready() for service in services.values()))
        yield System(stack, services, clients)


async def create_project(client: httpx.AsyncClient, name: str = "Research") -> str:
    answer = await client.post("/v1/projects", json={"name": name, "description": "", "metadata": {}})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def upload(
    client: httpx.AsyncClient, project_id: str, name: str, content: bytes, content_type: str = "text/plain"
) -> str:
    """Upload a document as a raw body; gives its id."""
    answer = await client.post(
        f"/v1/projects/{project_id}/documents",
        params={"name": name},
        content=content,
        headers={"Content-Type": content_type},
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def search(
    client: httpx.AsyncClient, project_id: str, query: str, mode: str = "hybrid", **more: Any
) -> list[Json]:
    answer = await client.post(
        f"/v1/projects/{project_id}/search", json={"query": query, "mode": mode, "limit": 10, **more}
    )
    assert answer.status_code == 200, answer.text
    items: list[Json] = answer.json()["items"]
    return items


async def document(client: httpx.AsyncClient, project_id: str, document_id: str) -> Json:
    answer = await client.get(f"/v1/projects/{project_id}/documents/{document_id}")
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


async def all_documents(client: httpx.AsyncClient, project_id: str) -> list[Json]:
    """Every document of a project, page by page."""
    items: list[Json] = []
    cursor: str | None = None
    while True:
        params = {"limit": "200"} | ({"cursor": cursor} if cursor else {})
        answer = await client.get(f"/v1/projects/{project_id}/documents", params=params)
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return items


async def settled(client: httpx.AsyncClient, project_id: str, count: int, *, within: float = 60.0) -> list[Json]:
    """All `count` documents once none of them waits any more."""

    async def done() -> list[Json]:
        try:
            documents = await all_documents(client, project_id)
        except (httpx.HTTPError, AssertionError):
            return []
        over = [item for item in documents if item["status"] in ("indexed", "failed", "cancelled")]
        return documents if len(over) == count else []

    return await eventually(done, within=within, every=0.2)
