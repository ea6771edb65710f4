"""What indexing remembers of projects and documents is told to it, and one tenant's trouble is not the others'."""

import uuid

import httpx
import pytest
from sqlalchemy import text

from shared.events.projects import DocumentUpdated, ProjectDeleted, ProjectRestored
from shared.tenancy import Database
from tests.services.indexing.projects_double import ProjectsDouble
from tests.support.identity import IdentityDouble
from tests.support.leases import envelope
from tests.support.polling import eventually


class Tenant:
    """A tenant with a project, searched by its owner."""

    def __init__(self, client: httpx.AsyncClient, tokens: IdentityDouble, projects: ProjectsDouble) -> None:
        self.id = uuid.uuid4()
        self.project = uuid.uuid4()
        self._client = client
        self._tokens = tokens
        projects.access[self.project] = {}

    async def searched(self) -> int:
        answer = await self._client.post(
            f"/v1/projects/{self.project}/search",
            json={"query": "word", "mode": "keyword"},
            headers=self._tokens.headers("indexing", tenant_id=self.id),
        )
        return answer.status_code


@pytest.fixture
async def tenant(client: httpx.AsyncClient, tokens: IdentityDouble, projects: ProjectsDouble) -> Tenant:
    return Tenant(client, tokens, projects)


@pytest.fixture
async def other(client: httpx.AsyncClient, tokens: IdentityDouble, projects: ProjectsDouble) -> Tenant:
    return Tenant(client, tokens, projects)


async def test_a_deleted_project_is_searched_no_more_and_a_restored_one_again(
    tenant: Tenant, projects: ProjectsDouble
) -> None:
    assert await tenant.searched() == 200
    deleted = ProjectDeleted(project_id=tenant.project, actor_id=None)
    await projects.leases.tell(envelope(deleted, tenant.id, sequence=2))
    assert await tenant.searched() == 404
    restored = ProjectRestored(project_id=tenant.project, actor_id=None)
    await projects.leases.tell(envelope(restored, tenant.id, sequence=3))
    assert await tenant.searched() == 200


async def test_an_event_about_an_unknown_document_leaves_everything_usable(
    tenant: Tenant, projects: ProjectsDouble, database: Database
) -> None:
    """Its upload is on the stream still; so is the event, and it is applied there."""
    updated = DocumentUpdated(project_id=tenant.project, document_id=uuid.uuid4(), version=1, name="n", metadata={})
    entry = envelope(updated, tenant.id, sequence=2)
    await projects.leases.tell(entry)
    assert await tenant.searched() == 200
    async with database.tenant(tenant.id) as session:
        claimed = await session.execute(
            text("SELECT count(*) FROM inbox").execution_options(tenant_guard="a test counts the tenant's own")
        )
        assert claimed.scalar_one() == 0


async def test_what_cannot_be_applied_stops_its_tenant_alone(
    tenant: Tenant, other: Tenant, projects: ProjectsDouble, database: Database
) -> None:
    assert [await tenant.searched(), await other.searched()] == [200, 200]
    async with database.tenant(tenant.id) as session:
        # Somebody holds what the event is about.
        await session.execute(
            text("SELECT 1 FROM known_projects FOR UPDATE").execution_options(tenant_guard="a test locks its own")
        )
        deleted = ProjectDeleted(project_id=tenant.project, actor_id=None)
        await projects.leases.tell(envelope(deleted, tenant.id, sequence=2))
        assert [await tenant.searched(), await other.searched()] == [503, 200]

    async def caught_up() -> bool:
        return await tenant.searched() == 404

    await eventually(caught_up, within=20)
    assert await other.searched() == 200
