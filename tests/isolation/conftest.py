"""Two tenants in one system: a victim with one of everything, and attackers who know all of its ids."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest

from infra.local.stack import Stack
from infra.postgres.roles import DATABASE
from tests.isolation import attackers, proofs, report
from tests.isolation.attackers import Cast
from tests.isolation.canaries import CANARY, canary
from tests.isolation.endpoints import Document
from tests.isolation.people import Browser, make_key, sign_in
from tests.support.one_process import one_process_system, tenant
from tests.support.polling import eventually
from tests.support.resumable import begin_upload
from tests.support.sse import listening
from tests.support.system import create_project, upload

__all__ = ("CANARY", "Victim")
HERE = Path(__file__).parent
# Refusals count against one address; here all attackers share it.
_NO_LIMITS = {f"QUARRY_GATEWAY_{name}_PER_MINUTE": "1000000" for name in ("ANONYMOUS", "SIGN_IN", "TENANT", "USER")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.isolation)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed and report.nodeid.startswith("tests/isolation/"):
        proofs.passed(report.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.markexpr == "isolation":
        terminalreporter.section("isolation")
        proofs.declare()
        for line in report.lines():
            terminalreporter.write_line(line)


@dataclass(frozen=True, slots=True)
class Victim:
    """What attackers would like to see. `ids` maps path parameters to the victim's; `secrets` are its credentials.

    The second project is the victim's too: attacks from inside the tenant come from there.
    """

    client: httpx.AsyncClient
    ids: dict[str, str]
    browser: Browser
    other_project: str
    other_document: str
    other_batch: str
    secrets: frozenset[str]


@pytest.fixture(scope="session")
async def whole(folders: Callable[[str], Path]) -> AsyncIterator[Stack]:
    async with one_process_system(folders("whole"), extra={"gateway": _NO_LIMITS}) as stack:
        yield stack


@pytest.fixture(scope="session")
async def victim(whole: Stack) -> AsyncIterator[Victim]:
    async with tenant(whole, f"victim {canary('tenant')}") as (tenant_id, client):
        described = {"description": canary("project"), "metadata": {"note": canary("project")}}
        project = await create_project(client, f"Project {canary('project')}")
        other_project = await create_project(client, "Elsewhere in the tenant")
        changed = await client.patch(f"/v1/projects/{project}", json=described, headers={"If-Match": '"1"'})
        assert changed.status_code == 200, changed.text
        async with listening(client, f"/v1/projects/{project}/events") as live:
            document = await upload(
                client, project, f"{canary('document')}.txt", f"{canary('content')} sings.".encode()
            )
            failed = await upload(client, project, f"{canary('document')}.pdf", b"%PDF-1.7 nothing", "application/pdf")
            await live.until(lambda seen: seen.of("document.indexed") and seen.of("document.failed"), within=60)
        other_document = await upload(client, other_project, "elsewhere.txt", b"Nothing of interest here.")
        named = await client.patch(
            f"/v1/projects/{project}/documents/{document}", json={"metadata": {"note": canary("document")}}
        )
        assert named.status_code == 200, named.text
        asked = {"question": f"Who sings of {canary('question')}?", "stream": False}
        run = await client.post(f"/v1/projects/{project}/ask", json=asked)
        assert run.status_code == 200, run.text
        resumable = await begin_upload(client, project, f"{canary('document')}.md", 64, b"# Not finished")
        await _plant_in_failures(whole, failed)
        me = (await client.get("/v1/me")).json()
        key = await make_key(client, canary("key"), frozenset({"search"}))
        invited = (await client.post("/v1/invitations", json={"email": f"{canary('invited')}@example.test"})).json()
        letters = (await client.get(f"/v1/projects/{project}/dead-letters")).json()["items"]
        browser = await sign_in(whole, me["user"]["email"])
        await _until_indexed(client, other_project, other_document)
        export = await _exported(client, project)
        yield Victim(
            client,
            {
                "tenant_id": tenant_id,
                "project_id": project,
                "document_id": document,
                "user_id": me["user"]["id"],
                "key_id": key["id"],
                "session_id": await browser.session_id(),
                "invitation_id": invited["id"],
                "job_id": letters[0]["id"],
                # Nobody's; as long as any other id, so that refusals are.
                "agent": "answer".ljust(36, "-"),
                "run_id": run.json()["id"],
                "upload_id": resumable.rpartition("/")[2],
                "export_id": export,
                "batch_id": await _batch(client, project, canary("project")),
                "version": "1",
                "generation": "2",
            },
            browser,
            other_project,
            other_document,
            await _batch(client, other_project, "elsewhere"),
            frozenset(
                {*browser.cookies.values(), *browser.spent, key["key"], invited["token"]}
                | {client.headers["Authorization"].removeprefix("Bearer ")}
            ),
        )
        await browser.client.aclose()


@pytest.fixture(scope="session")
async def attacker(whole: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with tenant(whole, "attacker") as (_, client):
        yield client


@pytest.fixture(scope="session")
async def other(attacker: httpx.AsyncClient) -> dict[str, str]:
    """What the other tenant has of its own: a project with a document and a batch in it."""
    project = await create_project(attacker, "Own")
    document = await upload(attacker, project, "own.txt", b"Something of one's own.")
    await _until_indexed(attacker, project, document)
    return {"project_id": project, "document_id": document, "batch_id": await _batch(attacker, project, "own")}


@pytest.fixture(scope="session")
async def cast(whole: Stack, victim: Victim, attacker: httpx.AsyncClient) -> AsyncIterator[Cast]:
    """One attacker of each kind."""
    made = Cast(whole, victim.client, victim.ids["project_id"], victim.other_project)
    async with made.closing:
        await attackers.gather(made, attacker)
        yield made


@pytest.fixture(scope="session")
async def document(attacker: httpx.AsyncClient) -> Document:
    """The product's OpenAPI document."""
    described: Document = (await attacker.get("/openapi.json")).json()
    return described


async def _plant_in_failures(stack: Stack, document_id: str) -> None:
    """What extraction says of a broken file may quote it."""
    admin = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
    try:
        for statement in (
            "UPDATE projects.documents SET error_reason = $1 WHERE id = $2::uuid",
            "UPDATE indexing.jobs SET error_reason = $1 WHERE document_id = $2::uuid",
        ):
            await admin.execute(statement, canary("failure"), document_id)
    finally:
        await admin.close()


async def _batch(client: httpx.AsyncClient, project: str, name: str) -> str:
    answer = await client.post(f"/v1/projects/{project}/batches", json={"name": name})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def _exported(client: httpx.AsyncClient, project: str) -> str:
    answer = await client.post("/v1/exports", json={"project_id": project})
    assert answer.status_code == 202, answer.text

    async def ready() -> bool:
        return bool((await client.get(answer.headers["Location"])).json()["status"] == "ready")

    await eventually(ready, within=60)
    return str(answer.json()["id"])


async def _until_indexed(client: httpx.AsyncClient, project: str, document: str) -> None:
    async def indexed() -> bool:
        found = await client.get(f"/v1/projects/{project}/documents/{document}")
        return bool(found.json()["status"] == "indexed")

    await eventually(indexed, within=60, every=0.05)
