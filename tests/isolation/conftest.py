"""Two tenants in one system: a victim with one of everything, and an attacker who knows all of its ids."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from infra.local.stack import Stack
from tests.isolation import report
from tests.support.one_process import one_process_system, tenant
from tests.support.sse import listening
from tests.support.system import create_project, upload

CANARY = "canary-4f1d"
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.isolation)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.markexpr == "isolation":
        terminalreporter.section("isolation")
        for line in report.lines():
            terminalreporter.write_line(line)


@dataclass(frozen=True, slots=True)
class Victim:
    """What the attacker would like to see. `ids` maps path parameters to the victim's."""

    client: httpx.AsyncClient
    ids: dict[str, str]


@pytest.fixture(scope="session")
async def whole(folders: Callable[[str], Path]) -> AsyncIterator[Stack]:
    async with one_process_system(folders("whole")) as stack:
        yield stack


@pytest.fixture(scope="session")
async def victim(whole: Stack) -> AsyncIterator[Victim]:
    async with tenant(whole, f"victim {CANARY}") as (tenant_id, client):
        project = await create_project(client, f"Project {CANARY}")
        async with listening(client, f"/v1/projects/{project}/events") as live:
            document = await upload(client, project, f"{CANARY}.txt", f"The {CANARY} sings.".encode())
            failed = await upload(client, project, f"{CANARY}.pdf", b"%PDF-1.7 nothing", "application/pdf")
            await live.until(lambda seen: seen.of("document.indexed") and seen.of("document.failed"))
        me = (await client.get("/v1/me")).json()
        keys = (await client.get("/v1/api-keys")).json()["items"]
        invited = await client.post("/v1/invitations", json={"email": f"{CANARY}@example.test", "role": "member"})
        letters = (await client.get(f"/v1/projects/{project}/dead-letters")).json()["items"]
        assert letters, failed
        yield Victim(
            client,
            {
                "tenant_id": tenant_id,
                "project_id": project,
                "document_id": document,
                "user_id": me["user"]["id"],
                "key_id": keys[0]["id"],
                "session_id": keys[0]["id"],
                "invitation_id": invited.json()["id"],
                "job_id": letters[0]["id"],
                "version": "1",
            },
        )


@pytest.fixture(scope="session")
async def attacker(whole: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with tenant(whole, "attacker") as (_, client):
        yield client
