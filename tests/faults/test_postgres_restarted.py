"""PostgreSQL ends at once in the middle of everything, by its immediate shutdown or by SIGKILL, and starts again."""

import asyncio
import signal

import httpx
import pytest

from tests.faults.fault_injection import restart_postgres
from tests.faults.meters import stretched
from tests.faults.watched import Watched, assert_invariants, watched_project
from tests.support.documents import note
from tests.support.system import System, all_documents

pytestmark = pytest.mark.long

RECOVERY_SECONDS = 10.0
ANSWER_SECONDS = 5.0


@pytest.fixture(scope="module")
async def owner(hasty: System) -> httpx.AsyncClient:
    _, client = await hasty.tenant("postgres restarts")
    return client


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGKILL], ids=["immediate", "kill -9"])
async def test_a_restart_in_the_middle_loses_and_repeats_nothing(
    hasty: System, owner: httpx.AsyncClient, number: signal.Signals
) -> None:
    async with watched_project(owner) as watched:
        await watched.upload(5)
        uploading = asyncio.create_task(_keep_uploading(watched, 25))
        await watched.live.until(lambda seen: len(seen.of("document.indexed")) >= 2)
        await restart_postgres(hasty.stack, number)
        answers = await uploading
        # An answer that was lost with its connection may have been meant well: what is there counts.
        listed = await _listed(watched)
        accepted = {answer.json()["id"] for answer in answers if answer.status_code == 201}
        assert accepted <= listed
        watched.documents = sorted(listed)
        await watched.all_indexed(within=stretched(RECOVERY_SECONDS))
        watched.assert_told_once_in_order(late=True)
    await assert_invariants(hasty.stack)
    for answer in answers:
        assert answer.status_code in (201, 503), answer.text
        assert answer.status_code == 201 or answer.headers["Retry-After"], answer.headers
        assert answer.elapsed.total_seconds() < stretched(ANSWER_SECONDS)
    for service in hasty.services.values():
        await service.wait_ready(stretched(RECOVERY_SECONDS))


async def _keep_uploading(watched: Watched, count: int) -> list[httpx.Response]:
    """Upload until `count` were accepted, whatever happens between."""
    answers: list[httpx.Response] = []
    accepted = 0
    while accepted < count:
        answers.append(
            await watched.client.post(
                f"/v1/projects/{watched.project}/documents",
                params={"name": f"note-{len(answers):04d}.txt"},
                content=note(1000 + len(answers), size=600),
                headers={"Content-Type": "text/plain"},
            )
        )
        accepted += answers[-1].status_code == 201
    return answers


async def _listed(watched: Watched) -> set[str]:
    return {item["id"] for item in await all_documents(watched.client, watched.project)}
