"""Lists that tools ask the projects service for: tenants share the asking, and every answer is understood."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from fastapi import FastAPI, Response

from services.indexing.agents.mcp.projects_client import Caller, ProjectsClient
from shared import service_client
from shared.auth import Principal, PrincipalKind
from shared.delegation import Delegation
from shared.errors import Forbidden, InvalidRequest, NotFound, QuarryError, Unavailable
from tests.support.identity import IdentityDouble
from tests.support.polling import eventually
from tests.support.serving import serve


@dataclass
class Owner:
    """Answers lists when let go; `most` counts how many of them were under way at once."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    status: int = 200
    body: str = '{"items": [], "next_cursor": null}'
    running: int = 0
    most: int = 0

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/projects")
        async def listed() -> Response:
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await self.go.wait()
            finally:
                self.running -= 1
            return Response(self.body, self.status, media_type="application/json")

        return app


@pytest.fixture
async def owner() -> Owner:
    return Owner()


@pytest.fixture
async def client(owner: Owner, tokens: IdentityDouble) -> AsyncIterator[ProjectsClient]:
    async with serve(owner.app()) as url, service_client.new_session() as http:
        yield ProjectsClient(url, Delegation("indexing", "secret", tokens.url, http), http)


def caller(tokens: IdentityDouble) -> Caller:
    tenant_id = uuid.uuid4()
    principal = Principal(PrincipalKind.API_KEY, "somebody", uuid.uuid4(), tenant_id, "owner", frozenset())
    return Caller(principal, tokens.bearer("indexing", tenant_id=tenant_id))


async def test_a_tenant_that_lists_much_leaves_others_their_turn(
    owner: Owner, client: ProjectsClient, tokens: IdentityDouble
) -> None:
    busy, other = caller(tokens), caller(tokens)
    flood = [asyncio.create_task(client.projects(busy)) for _ in range(40)]
    await eventually(lambda: _is(owner.running, 4), within=10)
    one = asyncio.create_task(client.projects(other))
    await eventually(lambda: _is(owner.running, 5), within=10)
    owner.go.set()
    assert (await one)["items"] == []
    await asyncio.gather(*flood)
    assert owner.most == 5


async def test_what_waits_of_a_tenant_is_bounded(owner: Owner, client: ProjectsClient, tokens: IdentityDouble) -> None:
    busy = caller(tokens)
    asked = [asyncio.create_task(client.projects(busy)) for _ in range(80)]
    await eventually(lambda: _is(owner.running, 4), within=10)
    owner.go.set()
    outcomes = Counter(type(outcome) for outcome in await asyncio.gather(*asked, return_exceptions=True))
    assert outcomes == {dict: 68, Unavailable: 12}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidRequest),
        (422, InvalidRequest),
        (403, Forbidden),
        (404, NotFound),
        (401, Unavailable),
        (500, Unavailable),
    ],
)
async def test_a_refusal_of_the_owner_is_one_of_the_tool(
    owner: Owner, client: ProjectsClient, tokens: IdentityDouble, status: int, error: type[QuarryError]
) -> None:
    owner.status, owner.body = status, '{"detail": "The cursor is not one."}'
    owner.go.set()
    with pytest.raises(error) as raised:
        await client.projects(caller(tokens))
    assert (raised.value.public_detail == "The cursor is not one.") is (error is InvalidRequest)


async def test_an_owner_that_is_away_is_unavailable(tokens: IdentityDouble) -> None:
    async with aiohttp.ClientSession() as http:
        client = ProjectsClient("http://127.0.0.1:9", Delegation("indexing", "secret", tokens.url, http), http)
        with pytest.raises(Unavailable):
            await client.projects(caller(tokens))


async def _is(found: int, expected: int) -> bool:
    return found == expected
