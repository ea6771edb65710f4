import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from services.projects.blobs.store import BlobStore
from services.projects.dependencies import Resources
from services.projects.main import create_app
from shared.auth import PrincipalKind
from shared.tenancy import Database
from tests.services.projects.callers import Caller
from tests.support.identity import IdentityDouble
from tests.support.serving import StartedApp, in_process

Environment = dict[str, str]


@pytest.fixture(scope="session")
async def environment(
    service_environment: Callable[[str], Awaitable[Environment]], tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    variables = await service_environment("projects")
    variables["QUARRY_PROJECTS_BLOB_ROOT"] = str(tmp_path_factory.mktemp("blobs"))
    variables["QUARRY_PROJECTS_MAX_DOCUMENT_BYTES"] = str(4 * 1024 * 1024)
    variables["QUARRY_PROJECTS_CLEANING_SECONDS"] = "0.1"
    return variables


@pytest.fixture(scope="package")
async def running(environment: Environment) -> AsyncIterator[tuple[StartedApp, httpx.AsyncClient]]:
    """The service as it is deployed, called in process."""
    async with in_process(create_app, environment) as (app, client):
        yield app, client


@pytest.fixture(scope="package")
def client(running: tuple[StartedApp, httpx.AsyncClient]) -> httpx.AsyncClient:
    return running[1]


@pytest.fixture(scope="package")
def database(running: tuple[StartedApp, httpx.AsyncClient]) -> Database:
    return running[0].database


@pytest.fixture(scope="package")
def blobs(running: tuple[StartedApp, httpx.AsyncClient]) -> BlobStore:
    return running[0].resources(Resources).blobs


@pytest.fixture(scope="session")
def blob_root(environment: Environment) -> Path:
    return Path(environment["QUARRY_PROJECTS_BLOB_ROOT"])


@pytest.fixture
def admin(client: httpx.AsyncClient, tokens: IdentityDouble, tenant_id: uuid.UUID) -> Caller:
    """Owner of a tenant of the test's own."""
    return Caller(client, tokens, tenant_id=tenant_id, tenant_role="owner")


@pytest.fixture
def outsider(client: httpx.AsyncClient, tokens: IdentityDouble) -> Caller:
    """Owner of another tenant."""
    return Caller(client, tokens, tenant_id=uuid.uuid4(), tenant_role="owner")


@pytest.fixture
def neighbour(client: httpx.AsyncClient, tokens: IdentityDouble, tenant_id: uuid.UUID) -> Caller:
    """Another service, asking about the test's tenant."""
    return Caller(client, tokens, tenant_id=tenant_id, tenant_role="admin", kind=PrincipalKind.SERVICE)


@pytest.fixture
async def project_id(admin: Caller) -> uuid.UUID:
    return await admin.create_project()
