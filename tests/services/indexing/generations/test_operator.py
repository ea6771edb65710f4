"""The command `vectors`: of all projects, beside a running service and without one."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from infra.local import commands
from infra.operator import vectors as command
from services.indexing.vectors.store import VectorStore
from shared.tenancy import Database
from tests.services.indexing.generations.conftest import Project, make_due

Environment = dict[str, str]
Run = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def run(environment: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for variable, value in environment.items():
        if "SYSTEM_DATABASE_URL" in variable:
            monkeypatch.setenv(variable, value)

    async def called(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        status = await asyncio.to_thread(command.main, [str(argument) for argument in arguments])
        return status, capsys.readouterr().out

    return called


async def found(run: Run, project: Project) -> list[dict[str, Any]]:
    status, printed = await run("status", "--tenant", project.library.tenant_id, "--json")
    assert status == 0
    items: list[dict[str, Any]] = json.loads(printed)["items"]
    return items


async def test_all_vectors_are_lost_and_brought_back(run: Run, project: Project, store: VectorStore) -> None:
    await project.fill(9)
    before = await project.answers()
    await store.wipe()
    status, printed = await run("check", "--tenant", project.library.tenant_id, "--wait", 60)
    assert (status, printed) == (0, "1 projects\n")
    assert await project.answers() == before


async def test_projects_are_indexed_again_and_returned(run: Run, project: Project) -> None:
    await project.fill(2)
    scope = ("--project", project.library.project_id, "--wait", 60)
    assert (await run("reindex", *scope))[0] == 0
    assert await project.states() == {2: "active"}
    assert (await run("reindex", *scope, "--always"))[0] == 0
    await project.becomes({3: "active", 2: "kept"})
    assert [(item["generation"], item["state"], item["lacking"]) for item in await found(run, project)] == [
        (2, "kept", 0),
        (3, "active", 0),
    ]
    assert (await run("rollback", *scope))[0] == 0
    await project.becomes({2: "active", 3: "kept"})
    status, printed = await run("status", "--project", project.library.project_id)
    assert status == 0
    assert printed.splitlines()[0].split()[:4] == ["TENANT", "ID", "PROJECT", "ID"]
    assert printed.splitlines()[-1] == "2 generations"


async def test_what_is_not_finished_is_told(run: Run, project: Project, database: Database) -> None:
    await project.fill(1)
    await make_due(database, project.library)
    assert (await run("reindex", "--project", project.library.project_id, "--always", "--wait", 0))[0] == 0
    await project.becomes({3: "active", 2: "kept"})


async def test_who_is_not_there_is_told(run: Run, project: Project) -> None:
    assert (await run("check", "--project", project.library.project_id))[0] == command.FAILED
    with pytest.raises(SystemExit):
        await run("check")


def test_it_is_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, ...]] = []

    def call(*arguments: str) -> int:
        called.append(arguments)
        return 0

    monkeypatch.setattr(commands, "_call", call)
    monkeypatch.setattr("sys.argv", ["vectors", "status"])
    with pytest.raises(SystemExit) as ended:
        commands.vectors()
    assert ended.value.code == 0
    assert called[0][-3:] == ("-m", "infra.operator.vectors", "status")
