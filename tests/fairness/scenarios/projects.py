"""What a tenant asks of its projects as a whole: batches of documents, and exports."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.fairness import neighbours
from tests.fairness.scenario import Attacker, Operation, Scenario
from tests.support.documents import note
from tests.support.system import create_project, upload

_NOTES = 200
_AT_ONCE = 8
_FILES = 30
_FILE_BYTES = 2_000_000
_POLL_SECONDS = 0.5
_EVERY = 1.0


@asynccontextmanager
async def _batches(attackers: Sequence[Attacker]) -> AsyncIterator[Operation]:
    (attacker,) = attackers
    project = await create_project(attacker.client, "attack")
    places = asyncio.Semaphore(_AT_ONCE)

    async def add(batch: str, number: int) -> None:
        async with places:
            await attacker.client.post(
                f"/v1/projects/{project}/documents",
                params={"name": f"{number}.txt", "batch": batch},
                content=note(number),
                headers={"Content-Type": "text/plain"},
            )

    async def upload_one() -> None:
        made = await attacker.client.post(f"/v1/projects/{project}/batches", json={"expected": _NOTES})
        if made.is_success:
            await asyncio.gather(*(add(made.json()["id"], number) for number in range(_NOTES)))
        else:
            await asyncio.sleep(_POLL_SECONDS)

    yield upload_one


@asynccontextmanager
async def _exports(attackers: Sequence[Attacker]) -> AsyncIterator[Operation]:
    (attacker,) = attackers
    project = await create_project(attacker.client, "attack")
    for number in range(_FILES):
        content = os.urandom(_FILE_BYTES)
        await upload(attacker.client, project, f"{number}.bin", content, "application/octet-stream")

    async def export_all() -> None:
        made = await attacker.client.post("/v1/exports", json={"project_id": project})
        path = made.headers.get("Location")
        while path is not None:
            await asyncio.sleep(_POLL_SECONDS)
            answer = await attacker.client.get(path)
            if answer.json().get("status") in ("ready", "failed"):
                await attacker.client.get(f"{path}/content")
                await attacker.client.delete(path)
                return
        await asyncio.sleep(_POLL_SECONDS)

    yield export_all


SCENARIOS = (
    Scenario(
        "batches",
        f"batches of {_NOTES} notes, one after the other, beside a note",
        neighbours.upload_until_indexed,
        _batches,
        every=_EVERY,
    ),
    Scenario(
        "exports",
        f"exports of {_FILES} files of {_FILE_BYTES / 1e6:g} MB, one after the other, beside a note",
        neighbours.upload_until_indexed,
        _exports,
        every=_EVERY,
    ),
)
