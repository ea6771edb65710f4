"""Clients that only read, all the time, through the gateway; for them there are no faults.

What counts as an error is what a user would call one: no answer, an answer after more than the client waits for, or a
5xx. Reads are of what is there and stays there.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx

from tests.faults.commands import Tenant
from tests.support.system import create_project, settled, upload

TIMEOUT_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.1
_CONTENT: Final = b"What is read again and again.\n"


@dataclass(slots=True)
class Reads:
    """How reading went. `errors` say when, what and why; `slowest` in seconds."""

    done: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    slowest: float = 0.0
    waited: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.done.total()} reads, {len(self.errors)} errors, slowest {self.slowest:.1f} s, "
            f"{sum(seconds > 1 for seconds in self.waited)} over a second"
        )


@asynccontextmanager
async def reading(people: Sequence[Tenant]) -> AsyncIterator[Reads]:
    """Read as each tenant while the block runs."""
    reads = Reads()
    paths = [await _something_to_read(person.client) for person in people]
    tasks = [
        asyncio.create_task(_keep_reading(person.client, there, reads))
        for person, there in zip(people, paths, strict=True)
    ]
    try:
        yield reads
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _something_to_read(client: httpx.AsyncClient) -> dict[str, str]:
    project_id = await create_project(client, "Read")
    document_id = await upload(client, project_id, "read.txt", _CONTENT)
    await settled(client, project_id, 1)
    project = f"/v1/projects/{project_id}"
    return {
        "me": "/v1/me",
        "projects": "/v1/projects",
        "project": project,
        "documents": f"{project}/documents",
        "document": f"{project}/documents/{document_id}",
        "content": f"{project}/documents/{document_id}/content",
        "jobs": f"{project}/jobs",
        "members": "/v1/members",
    }


async def _keep_reading(client: httpx.AsyncClient, paths: dict[str, str], reads: Reads) -> None:
    for name, path in itertools.cycle(paths.items()):
        began = time.monotonic()
        problem = await _problem(client, path)
        seconds = time.monotonic() - began
        reads.done[name] += 1
        reads.waited.append(seconds)
        reads.slowest = max(reads.slowest, seconds)
        if problem:
            reads.errors.append(f"{time.strftime('%H:%M:%S')} {name} after {seconds:.1f} s: {problem}")
        await asyncio.sleep(_PAUSE_SECONDS)


async def _problem(client: httpx.AsyncClient, path: str) -> str:
    try:
        answer = await client.get(path, timeout=TIMEOUT_SECONDS)
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"
    if answer.status_code == 200:
        return ""
    return f"{answer.status_code} {answer.text[:200]}"
