"""The one-shot command that makes a database ready: everything at the first run, nothing at the second."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from infra.local.environment import role_passwords
from infra.local.stack import Stack
from infra.postgres import provision
from infra.postgres.provision import ADMIN_URL, PASSWORDS, PrepareError, passwords_from
from infra.postgres.roles import Access, all_roles, role_name
from shared.migrations import SERVICES_WITH_SCHEMA

DATABASE = "prepared"


@pytest.fixture(scope="module")
async def prepared(stack: Stack) -> str:
    """Address of the administrator, for a database that the command has made."""
    for _ in range(2):
        await asyncio.to_thread(
            provision.provision, stack.postgres.admin_dsn(), role_passwords(stack.home), database=DATABASE
        )
    return stack.postgres.admin_dsn(DATABASE)


async def test_every_service_finds_its_schema_at_the_newest_migration(stack: Stack, prepared: str) -> None:
    for service in SERVICES_WITH_SCHEMA:
        url = stack.database_url(service, Access.RUNTIME, DATABASE)
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        assert await connection.fetchval("SELECT current_schema()") == service
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
        await connection.close()


async def test_tables_belong_to_the_owner_alone(prepared: str) -> None:
    connection = await asyncpg.connect(prepared)
    owners = await connection.fetch(
        "SELECT DISTINCT schemaname, tableowner FROM pg_tables WHERE schemaname = ANY($1::text[])",
        list(SERVICES_WITH_SCHEMA),
    )
    await connection.close()
    assert {(row["schemaname"], row["tableowner"]) for row in owners} == {
        (service, role_name(service, Access.OWNER)) for service in SERVICES_WITH_SCHEMA
    }


def environ(tmp_path: Path, admin_url: str, passwords: object) -> dict[str, str]:
    (tmp_path / "admin").write_text(f"{admin_url}\n")
    (tmp_path / "passwords").write_text(json.dumps(passwords))
    return {f"{ADMIN_URL}_FILE": str(tmp_path / "admin"), f"{PASSWORDS}_FILE": str(tmp_path / "passwords")}


Run = Callable[[dict[str, str]], None]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        provision.main()

    return call


def test_the_command_reads_files_and_says_when_all_is_done(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[tuple[str, dict[str, str]]] = []
    monkeypatch.setattr(provision, "provision", lambda url, passwords: called.append((url, passwords)))
    run(environ(tmp_path, "postgresql://a", {"projects": "x"}))
    assert called == [("postgresql://a", {"projects": "x"})]
    assert "all migrations" in capsys.readouterr().out


def test_a_role_without_a_password_is_named_before_anything_is_done(tmp_path: Path, run: Run) -> None:
    passwords = dict.fromkeys(all_roles(), "x") | {"notifier_system": ""}
    with pytest.raises(SystemExit, match="not ready: no password for the database roles notifier_system"):
        run(environ(tmp_path, "postgresql://nowhere", passwords))


def test_a_server_that_is_not_there_is_an_error_with_a_reason(tmp_path: Path, run: Run) -> None:
    passwords = dict.fromkeys(all_roles(), "x")
    with pytest.raises(SystemExit, match="not ready: "):
        run(environ(tmp_path, f"postgresql://a:b@/x?host={tmp_path}", passwords))


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, f"{PASSWORDS} is not set"),
        ({PASSWORDS: "{"}, "is not JSON"),
        ({PASSWORDS: "[]"}, "must be a JSON object"),
        ({PASSWORDS: '{"projects": 1}'}, "must be a JSON object"),
        ({f"{PASSWORDS}_FILE": "/nowhere/at/all"}, "cannot read /nowhere/at/all"),
    ],
)
def test_passwords_that_cannot_be_read_are_an_error_that_names_the_variable(
    variables: dict[str, str], said: str
) -> None:
    with pytest.raises(PrepareError, match=said):
        passwords_from(variables)
