"""Services on the stack: real processes that are ready, killed, started again; and migrations."""

import asyncio
import json
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import httpx
import pytest

from infra.local.errors import ProcessError
from infra.local.home import ROOT, Home
from infra.local.processes import SUPERVISED
from infra.local.services import ServiceProcess
from infra.local.stack import Stack
from infra.postgres.roles import Access

MIGRATION = '''
"""A table."""

from alembic import op

revision = "{revision}"
down_revision = {former!r}

def upgrade() -> None:
    op.execute("{statement}")
'''


@pytest.fixture(scope="module")
async def stack(module_project: Path) -> AsyncIterator[Stack]:
    async with Stack(Home(module_project / ".quarry", module_project), durable=False, with_oidc=False) as running:
        yield running


@pytest.fixture
async def projects(stack: Stack) -> AsyncIterator[ServiceProcess]:
    """A service, not yet started."""
    service = stack.service("projects", {"EXTRA": "yes"})
    yield service
    await service.stop()


async def ask(url: str, path: str) -> object:
    async with httpx.AsyncClient(base_url=url) as client:
        return (await client.get(path)).json()


async def test_a_service_runs_with_its_environment_until_it_is_killed(stack: Stack, projects: ServiceProcess) -> None:
    service = projects
    assert not await service.ready()
    await service.start()
    await service.wait_ready()
    variables = await ask(service.url, "/environment")
    assert isinstance(variables, dict)
    assert variables["EXTRA"] == "yes"
    assert variables[SUPERVISED] == str(stack.home.folder)
    assert variables["QUARRY_PROJECTS_DATABASE_URL_FILE"].startswith(str(stack.home.secrets.folder))
    first = await ask(service.url, "/pid")
    service.kill()
    assert await service.wait() == -signal.SIGKILL
    assert not await service.ready()
    await service.start()
    await service.wait_ready()
    assert await ask(service.url, "/pid") != first
    assert service.url == stack.environment("gateway")["QUARRY_GATEWAY_PROJECTS_URL"]


async def test_a_service_ends_in_order_when_it_is_stopped(projects: ServiceProcess) -> None:
    await projects.start()
    await projects.wait_ready()
    await projects.stop()
    assert any("Application shutdown complete" in line for line in projects.log)


async def test_a_service_that_cannot_start_shows_why(stack: Stack) -> None:
    service = stack.service("projects", factory="services.projects.main:missing")
    await service.start()
    with pytest.raises(ProcessError, match=r"projects ended with status \d:\n(.*\n)*.*missing"):
        await service.wait_ready()


async def test_a_service_that_is_never_ready_is_named(projects: ServiceProcess) -> None:
    await projects.start()
    projects.freeze()
    with pytest.raises(ProcessError, match="projects is not ready after 0 s"):
        await projects.wait_ready(within=0.1)


async def test_leaving_the_stack_stops_services_before_servers(new_home: Callable[[], Home]) -> None:
    ended: list[str] = []

    def listen(name: str, line: str) -> None:
        if "Application shutdown complete" in line or "database system is shut down" in line:
            ended.append(name)

    async with Stack(new_home(), durable=False, with_oidc=False, on_line=listen) as stack:
        services = [stack.service(name) for name in ("gateway", "projects")]
        for service in services:
            await service.start()
            await service.wait_ready()
    assert ended == ["gateway", "projects", "postgres"]


async def test_kill_ends_everything_at_once(new_home: Callable[[], Home]) -> None:
    async with Stack(new_home(), durable=False, with_oidc=False) as stack:
        service = stack.service("projects")
        await service.start()
        stack.kill()
        processes = [service, *(server.process for server in stack.servers)]
        assert [await process.wait() for process in processes] == [-signal.SIGKILL] * 3


async def test_migrations_run_when_there_are_new_ones_and_not_otherwise(stack: Stack, module_project: Path) -> None:
    assert await stack.migrate(only_if_needed=True) is False
    project = module_project
    versions = project / "services" / "projects" / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions.parent / "env.py").write_text("from shared.migrations import run_env\nrun_env()\n")
    shutil.rmtree(project / "shared")
    shutil.copytree(ROOT / "shared", project / "shared", ignore=shutil.ignore_patterns("__pycache__"))
    first = MIGRATION.format(revision="0001", former=None, statement="CREATE TABLE notes (text text)")
    (versions / "0001_notes.py").write_text(first)
    assert await stack.migrate(only_if_needed=True) is True
    assert await stack.migrate(only_if_needed=True) is False
    assert await stack.migrate() is True

    admin = await asyncpg.connect(stack.postgres.admin_dsn("quarry"))
    owner = await admin.fetchval(
        "SELECT tableowner FROM pg_tables WHERE schemaname = 'projects' AND tablename = 'notes'"
    )
    assert owner == "projects_owner"
    await admin.execute("UPDATE projects.alembic_version SET version_num = 'other'")
    with pytest.raises(ProcessError, match=r"migrations failed with status 1:\n(.*\n)*.*other"):
        await stack.migrate(only_if_needed=True)
    await admin.execute("UPDATE projects.alembic_version SET version_num = '0001'")
    assert await stack.migrate(only_if_needed=True) is False

    second = MIGRATION.format(revision="0002", former="0001", statement="DROP TABLE notes")
    (versions / "0002_none.py").write_text(second)
    assert await stack.migrate(only_if_needed=True) is True
    assert await admin.fetchval("SELECT to_regclass('projects.notes')") is None
    await admin.close()


async def test_addresses_of_the_roles_work_as_they_are(stack: Stack) -> None:
    for access in Access:
        url = stack.database_url("notifier", access).replace("postgresql+asyncpg", "postgresql")
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT current_user || ' ' || current_database()") in {
            f"{name} quarry" for name in ("notifier", "notifier_system", "notifier_owner")
        }
        await connection.close()


async def test_ports_of_a_stack_are_remembered(stack: Stack) -> None:
    kept = await asyncio.to_thread(stack.home.ports_json.read_text)
    assert json.loads(kept) == stack.ports
