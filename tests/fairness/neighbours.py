"""What a neighbour does, each a thing that users wait for."""

import functools
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.fairness.scenario import Neighbour, Operation
from tests.support.documents import note
from tests.support.polling import eventually
from tests.support.sse import resuming
from tests.support.system import create_project, search, settled, upload

_NOTES = 20
_QUERY = "how was the railway kept in repair"


@asynccontextmanager
async def keyword_search(neighbour: Neighbour) -> AsyncIterator[Operation]:
    yield await _search(neighbour, "keyword")


@asynccontextmanager
async def hybrid_search(neighbour: Neighbour) -> AsyncIterator[Operation]:
    yield await _search(neighbour, "hybrid")


@asynccontextmanager
async def upload_until_indexed(neighbour: Neighbour) -> AsyncIterator[Operation]:
    """A small note, from the first byte sent until the project's feed says that it is found."""
    project = await create_project(neighbour.client, "neighbour")
    numbers = itertools.count()

    async with resuming(neighbour.client, f"/v1/projects/{project}/events") as watched:

        async def operation() -> None:
            number = next(numbers)
            document_id = await upload(neighbour.client, project, f"note-{number}.txt", note(number))

            async def indexed() -> bool:
                return "document.indexed" in watched.events_of(document_id)

            await eventually(indexed, within=60, every=0.01)

        await operation()
        yield operation


@asynccontextmanager
async def get_project(neighbour: Neighbour) -> AsyncIterator[Operation]:
    project = await create_project(neighbour.client, "neighbour")

    async def operation() -> None:
        answer = await neighbour.client.get(f"/v1/projects/{project}")
        assert answer.status_code == 200, answer.text

    yield operation


@asynccontextmanager
async def first_request_of_a_new_credential(neighbour: Neighbour) -> AsyncIterator[Operation]:
    """An API key is made, and used for the first time: nothing about it is remembered anywhere."""
    numbers = itertools.count()

    async def operation() -> None:
        made = await neighbour.client.post(
            "/v1/api-keys", json={"name": f"key {next(numbers)}", "scopes": ["projects:read"]}
        )
        assert made.status_code == 201, made.text
        answer = await neighbour.client.get("/v1/projects", headers={"Authorization": f"Bearer {made.json()['key']}"})
        assert answer.status_code == 200, answer.text
        await neighbour.client.delete(f"/v1/api-keys/{made.json()['id']}")

    yield operation


async def _search(neighbour: Neighbour, mode: str) -> Operation:
    project = await create_project(neighbour.client, "neighbour")
    for number in range(_NOTES):
        await upload(neighbour.client, project, f"note-{number}.txt", note(number))
    await settled(neighbour.client, project, _NOTES)
    return functools.partial(search, neighbour.client, project, _QUERY, mode)
