"""The commands behind `uv run`: they pass arguments on and answer with the status of what they ran."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from infra.local import commands
from infra.local.errors import StackError
from infra.local.home import ROOT, Home
from infra.local.stack import Stack
from infra.operator import migrate

OWNER_URL = "postgresql+asyncpg://x"


@pytest.mark.parametrize(
    ("command", "argument", "answer"),
    [
        (commands.test, "--version", "pytest"),
        (commands.type_check, "--version", "mypy"),
        (commands.contracts, "--help", "docs/asyncapi.json"),
    ],
)
def test_arguments_are_passed_on(
    command: Callable[[], None],
    argument: str,
    answer: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["command", argument])
    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 0
    said = capfd.readouterr()
    assert answer in said.out + said.err


def test_isolation_is_a_marked_part_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, ...]] = []

    def call(*command: str) -> int:
        called.append(command)
        return 1

    monkeypatch.setattr(commands, "_call", call)
    monkeypatch.setattr(sys, "argv", ["test", "--isolation", "-x"])
    with pytest.raises(SystemExit) as ended:
        commands.test()
    assert ended.value.code == 1
    assert called == [(sys.executable, "-m", "pytest", "-m", "isolation", "tests/isolation", "-x")]


@pytest.mark.parametrize(("mark", "folders"), [("long", commands._LONG), ("containers", commands._IN_CONTAINERS)])
def test_what_has_a_mark_is_where_its_command_looks(mark: str, folders: tuple[str, ...]) -> None:
    marked = {path for path in (ROOT / "tests").rglob("*.py") if f"pytest.mark.{mark}" in path.read_text("utf-8")}
    assert marked
    assert {path for path in marked if not any(path.is_relative_to(ROOT / folder) for folder in folders)} == set()


def test_bench_runs_the_module_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, ...]] = []

    def call(*command: str) -> int:
        called.append(command)
        return 3

    monkeypatch.setattr(commands, "_call", call)
    monkeypatch.setattr(sys, "argv", ["bench", "search"])
    with pytest.raises(SystemExit) as ended:
        commands.bench()
    assert ended.value.code == 3
    assert called == [(sys.executable, "-m", "tests.bench", "search")]


def test_lint_runs_every_check_even_when_the_first_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ruff", "lint-imports", "python"):
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> "{folder}/called"\ntest "$1" != check\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    with pytest.raises(SystemExit) as ended:
        commands.lint()
    assert ended.value.code == 1
    assert (folder / "called").read_text().splitlines() == [
        "ruff check .",
        "ruff format --check .",
        "lint-imports ",
        "python -m infra.contracts --check",
        "python -m infra.checks.failpoints",
    ]


def test_an_interrupt_is_left_to_the_command() -> None:
    inner = (
        "import signal, sys, time; signal.signal(signal.SIGINT, lambda *_: sys.exit(5)); "
        "print('ready', flush=True); time.sleep(60)"
    )
    outer = f"import sys; from infra.local.commands import _call; sys.exit(_call(sys.executable, '-c', {inner!r}))"
    command = subprocess.Popen(
        [sys.executable, "-c", outer], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert command.stdout is not None
    assert command.stdout.readline() == "ready\n"
    os.killpg(command.pid, signal.SIGINT)
    assert command.wait(timeout=20) == 5
    command.stdout.close()


async def test_migrate_makes_and_leaves_an_embedded_database(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUARRY_HOME", str(folder / "home"))
    # A thread has no running event loop, like the command line.
    await asyncio.to_thread(commands.migrate)
    assert f"the database in {folder / 'home'} is up to date" in capfd.readouterr().out
    assert not (folder / "home" / "postgres" / "postmaster.pid").exists()
    async with Stack(Home(folder / "home"), durable=False, with_oidc=False) as stack:
        assert await stack.migrate(only_if_needed=True) is False


async def test_migrate_uses_the_database_of_a_running_stack(folder: Path) -> None:
    async with Stack(Home(folder / "home"), durable=False, with_oidc=False) as stack:
        pid = stack.postgres.process.pid
        done = subprocess.run(
            [sys.executable, "-c", "from infra.local.commands import migrate; migrate()"],
            cwd=ROOT,
            env={**os.environ, "QUARRY_HOME": str(folder / "home")},
            check=False,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert stack.postgres.process.pid == pid
        connection = await asyncpg.connect(stack.postgres.admin_dsn())
        await connection.close()


def test_migrate_says_what_is_wrong_with_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARRY_HOME", str(folder))
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with pytest.raises(SystemExit, match="belongs to another user"):
        commands.migrate()


def test_migrate_takes_addresses_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUARRY_IDENTITY_OWNER_DATABASE_URL", OWNER_URL)
    with pytest.raises(SystemExit) as ended:
        commands.migrate()
    assert ended.value.code == 1
    assert "QUARRY_PROJECTS_OWNER_DATABASE_URL is not set" in capfd.readouterr().err


def test_all_addresses_are_known_before_the_first_migration(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[tuple[str, str]] = []
    monkeypatch.setattr(migrate, "migrated_services", lambda root: ["identity", "projects"])
    monkeypatch.setattr("shared.migrations.upgrade", lambda service, url: applied.append((service, url)))
    monkeypatch.setenv("QUARRY_IDENTITY_OWNER_DATABASE_URL", OWNER_URL)
    with pytest.raises(SystemExit, match="QUARRY_PROJECTS_OWNER_DATABASE_URL is not set"):
        migrate.main()
    assert applied == []
    monkeypatch.setenv("QUARRY_PROJECTS_OWNER_DATABASE_URL", OWNER_URL)
    migrate.main()
    assert applied == [("identity", OWNER_URL), ("projects", OWNER_URL)]


def test_addresses_of_owners_may_be_in_files(folder: Path, project: Path) -> None:
    (project / "services" / "projects" / "migrations").mkdir()
    (folder / "url").write_text(f"{OWNER_URL}\n")
    found = migrate.owner_urls(project, {"QUARRY_PROJECTS_OWNER_DATABASE_URL_FILE": str(folder / "url")})
    assert found == {"projects": OWNER_URL}
    with pytest.raises(StackError):
        migrate.owner_urls(project, {})
