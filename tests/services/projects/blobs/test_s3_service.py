"""The projects service with its documents' bytes in a bucket."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import httpx
import pytest

from infra.local.stack import Stack
from infra.postgres.roles import Access
from services.projects.blobs.store import BlobStore
from services.projects.dependencies import Resources
from services.projects.documents import cleaning
from services.projects.main import create_app
from shared.auth import PrincipalKind
from shared.failpoints import EXIT_STATUS
from shared.migrations import upgrade
from shared.tenancy import Database
from tests.services.projects.blobs.s3_server import S3Server
from tests.services.projects.callers import Caller, code
from tests.services.projects.test_quotas import delete_tenant
from tests.services.projects.uploads.pieces import add, begun, offset_of
from tests.support.identity import IdentityDouble
from tests.support.polling import eventually
from tests.support.serving import in_process

NOW = timedelta(0)
_DATABASE = "blobs_in_s3"


@dataclass(frozen=True, slots=True)
class Served:
    """The service in process, and the environment of another process of it."""

    client: httpx.AsyncClient
    database: Database
    blobs: BlobStore
    environment: dict[str, str]
    server: S3Server

    async def names(self, part: object) -> list[str]:
        """What the bucket holds whose name has `part` in it."""
        names = await self.server.names(self.environment["QUARRY_PROJECTS_S3_BUCKET"])
        return [name for name in names if str(part) in name]


@pytest.fixture(scope="module")
async def served(
    stack: Stack, tokens: IdentityDouble, environment: dict[str, str], s3_running: S3Server
) -> AsyncIterator[Served]:
    """On a database of its own: other tests' service would remove from its own store what is deleted here."""
    await stack.bootstrap(_DATABASE)
    await asyncio.to_thread(upgrade, "projects", stack.database_url("projects", Access.OWNER, _DATABASE))
    await s3_running.renew()
    access = s3_running.access
    variables = {
        **environment,
        "QUARRY_PROJECTS_DATABASE_URL": stack.database_url("projects", Access.RUNTIME, _DATABASE),
        "QUARRY_PROJECTS_SYSTEM_DATABASE_URL": stack.database_url("projects", Access.SYSTEM, _DATABASE),
        "QUARRY_PROJECTS_BLOB_ROOT": "",
        "QUARRY_PROJECTS_S3_URL": access.url,
        "QUARRY_PROJECTS_S3_BUCKET": access.bucket,
        "QUARRY_PROJECTS_S3_ACCESS_KEY_ID": access.access_key_id,
        "QUARRY_PROJECTS_S3_SECRET_ACCESS_KEY": access.secret_access_key,
    }
    async with in_process(create_app, variables) as (app, client):
        yield Served(client, app.database, app.resources(Resources).blobs, variables, s3_running)


@pytest.fixture
def owner(served: Served, tokens: IdentityDouble, tenant_id: uuid.UUID) -> Caller:
    return Caller(served.client, tokens, tenant_id=tenant_id, tenant_role="owner")


async def test_a_document_is_stored_read_and_deleted(served: Served, owner: Caller) -> None:
    assert (await served.client.get("/readyz")).json()["checks"]["blobs"] == "ok"
    project = await owner.create_project()
    document = await owner.uploaded(project, b"0123456789")
    path = f"/v1/projects/{project}/documents/{document['id']}"
    assert await served.names(document["id"]) == [f"{owner.tenant_id}/{project}/{document['id']}/1"]
    assert (await owner("GET", f"{path}/content")).content == b"0123456789"
    part = await owner("GET", f"{path}/content", headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert (await owner("DELETE", path)).status_code == 204

    async def gone() -> bool:
        return await served.names(document["id"]) == []

    await eventually(gone)


async def test_a_refused_upload_leaves_nothing(served: Served, owner: Caller) -> None:
    project = await owner.create_project()
    answer = await owner.upload(project, bytes(4 * 1024 * 1024 + 1))
    assert code(answer) == (413, "document_too_large")
    assert await served.names(owner.tenant_id) == []


async def test_the_bytes_of_a_deleted_tenant_are_removed(
    served: Served, owner: Caller, tokens: IdentityDouble, tenant_id: uuid.UUID
) -> None:
    other = Caller(served.client, tokens, tenant_id=uuid.uuid4(), tenant_role="owner")
    stays = await other.uploaded(await other.create_project())
    project = await owner.create_project()
    for _ in range(3):
        await owner.uploaded(project)
    await delete_tenant(served.database, tenant_id)

    async def gone() -> bool:
        return await served.names(tenant_id) == []

    await eventually(gone)
    assert len(await served.names(stays["id"])) == 1


async def test_a_resumable_upload_becomes_a_document(served: Served, owner: Caller) -> None:
    project = await owner.create_project()
    path = await begun(owner, project, 10)
    assert (await add(owner, path, 0, b"0123")).status_code == 204
    assert await offset_of(owner, path) == 4
    assert (await add(owner, path, 4, b"456789")).status_code == 204
    document = path.rpartition("/")[2]
    assert await served.names(owner.tenant_id) == [f"{owner.tenant_id}/{project}/{document}/1"]
    content = await owner("GET", f"/v1/projects/{project}/documents/{document}/content")
    assert content.content == b"0123456789"


@pytest.mark.parametrize(("place", "recorded"), [("upload.after_seal", 0), ("upload.before_keep", 1)])
async def test_a_process_that_is_killed_around_the_commit_leaves_nothing_for_long(
    stack: Stack, served: Served, owner: Caller, place: str, recorded: int
) -> None:
    project = await owner.create_project()
    service = stack.service("projects", {**served.environment, "QUARRY_FAILPOINTS": f"{place}=exit"})
    await service.start()
    await service.wait_ready()
    async with httpx.AsyncClient(base_url=service.url) as client:
        with pytest.raises(httpx.TransportError):
            await client.post(
                f"/v1/projects/{project}/documents", params={"name": "a"}, content=b"precious", headers=owner.headers
            )
    assert await service.wait() == EXIT_STATUS
    assert len(await served.names(owner.tenant_id)) == 2
    assert await cleaning.settle_leftovers(served.database, served.blobs, older_than=timedelta(hours=1)) == 0
    assert await cleaning.settle_leftovers(served.database, served.blobs, older_than=NOW) == 1
    assert len(await served.names(owner.tenant_id)) == recorded
    for item in (await owner("GET", f"/v1/projects/{project}/documents")).json()["items"]:
        content = await owner("GET", f"/v1/projects/{project}/documents/{item['id']}/content")
        assert content.content == b"precious"


async def test_clients_are_sent_to_the_bucket_if_the_installation_says_so(
    served: Served, owner: Caller, tokens: IdentityDouble, tenant_id: uuid.UUID
) -> None:
    project = await owner.create_project()
    document = await owner.uploaded(project, b"0123456789", name="a b.txt")
    path = f"/v1/projects/{project}/documents/{document['id']}"
    variables = {
        **served.environment,
        "QUARRY_PROJECTS_ROLES": "http",
        "QUARRY_PROJECTS_S3_PUBLIC_URL": served.server.access.url,
    }
    async with in_process(create_app, variables) as (_, client), httpx.AsyncClient() as browser:
        reader = Caller(client, tokens, tenant_id=tenant_id, tenant_role="owner")
        answer = await reader("GET", f"{path}/content")
        assert (answer.status_code, answer.headers["cache-control"]) == (307, "no-store")
        found = await browser.get(answer.headers["location"], headers={"Range": "bytes=2-4"})
        assert (found.status_code, found.content) == (206, b"234")
        for header in ("content-disposition", "content-type"):
            proxied = (await owner("GET", f"{path}/content")).headers[header]
            assert found.headers[header].split(";")[0] == proxied.split(";")[0]

        # Conditions name our entity tag, and an address is for GET.
        tag = f'"{document["sha256"]}"'
        assert (await reader("GET", f"{path}/content", headers={"If-None-Match": tag})).status_code == 304
        assert (await reader("GET", f"{path}/content", headers={"If-Match": tag})).content == b"0123456789"
        assert (await reader("HEAD", f"{path}/content")).status_code == 200
        assert (await reader("GET", f"{path}/content", headers={"Range": "bytes=10-"})).status_code == 416

        outsider = Caller(client, tokens, tenant_id=uuid.uuid4(), tenant_role="owner")
        assert code(await outsider("GET", f"{path}/content")) == (404, "not_found")
        indexing = Caller(client, tokens, tenant_id=tenant_id, tenant_role="admin", kind=PrincipalKind.SERVICE)
        internal = f"/internal/projects/{project}/documents/{document['id']}/versions/1/content"
        assert (await indexing("GET", internal)).content == b"0123456789"
