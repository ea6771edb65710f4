import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from sqlalchemy import text

from services.indexing.main import create_app
from services.indexing.settings import IndexingSettings
from shared import db
from shared.tenancy import Database
from tests.services.indexing.projects_double import ProjectsDouble
from tests.services.indexing.uploads import Library
from tests.support.serving import StartedApp, in_process

Environment = dict[str, str]


@pytest.fixture(scope="session")
async def projects() -> AsyncIterator[ProjectsDouble]:
    async with ProjectsDouble.serving() as double:
        yield double


@pytest.fixture(scope="session")
async def environment(
    service_environment: Callable[[str], Awaitable[Environment]],
    projects: ProjectsDouble,
    tmp_path_factory: pytest.TempPathFactory,
) -> Environment:
    variables = await service_environment("indexing")
    variables["QUARRY_INDEXING_PROJECTS_URL"] = projects.url
    variables["QUARRY_INDEXING_DATA_DIR"] = str(tmp_path_factory.mktemp("vectors"))
    variables["QUARRY_INDEXING_JOB_LEASE_SECONDS"] = "3"
    return variables


@pytest.fixture(scope="session")
def settings(environment: Environment) -> IndexingSettings:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("QUARRY_")]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        return IndexingSettings.load()


@pytest.fixture(scope="session")
async def database(settings: IndexingSettings) -> AsyncIterator[Database]:
    """Both roles of the service, beside any running one."""
    engines = await db.connect(settings)
    yield Database(engines)
    await engines.dispose()


@pytest.fixture
async def quiet_queue(database: Database) -> None:
    """No job of an earlier test waits or runs."""
    async with database.system() as session:
        await session.execute(
            text("UPDATE jobs SET state = 'cancelled' WHERE state NOT IN ('indexed', 'failed', 'cancelled')")
        )


@pytest.fixture(scope="module")
async def running(environment: Environment) -> AsyncIterator[tuple[StartedApp, httpx.AsyncClient]]:
    """The service with all its roles, for the length of a module: elsewhere nobody takes the jobs of a test."""
    async with in_process(create_app, environment) as (app, client):
        yield app, client


@pytest.fixture(scope="module")
def client(running: tuple[StartedApp, httpx.AsyncClient]) -> httpx.AsyncClient:
    return running[1]


@pytest.fixture
def library(database: Database, projects: ProjectsDouble, tenant_id: uuid.UUID) -> Library:
    """A project of the test's own tenant."""
    return Library(database, projects, tenant_id)


@pytest.fixture
def other_library(database: Database, projects: ProjectsDouble) -> Library:
    """A project of another tenant."""
    return Library(database, projects, uuid.uuid4())
