"""Quotas of a tenant, and the end of one."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from services.projects import erasure
from services.projects.blobs.store import BlobStore
from services.projects.dependencies import Resources
from services.projects.documents.models import Document
from services.projects.projects.models import Project, ProjectMember
from services.projects.tenants import repository
from services.projects.tenants.models import Departure, TenantErasure, TenantUsage
from services.projects.tenants.service import forget_tenant, note_departure
from shared.events.identity import MembershipChanged, TenantDeleted
from shared.tenancy import Database
from shared.work_queue import ClaimLost
from tests.services.projects.blobs.files import blobs_of
from tests.services.projects.callers import Caller, code, events
from tests.support.letters import envelope_of
from tests.support.polling import eventually
from tests.support.serving import StartedApp


@pytest.fixture
async def small(running: tuple[StartedApp, httpx.AsyncClient]) -> AsyncIterator[None]:
    """Room for little."""
    app, _ = running
    before = app.resources(Resources)
    app.state["resources"] = replace(
        before, quotas=replace(before.quotas, projects=3, documents=4, bytes=100, uploads=2, exports=5, open_batches=3)
    )
    yield
    app.state["resources"] = before


async def usage(database: Database, tenant_id: uuid.UUID) -> tuple[int, int, int]:
    async with database.tenant(tenant_id) as session:
        row = (await session.scalars(select(TenantUsage))).one()
        return row.projects, row.documents, row.bytes


def figures(answer: httpx.Response) -> tuple[int, str, str, int, int]:
    told = answer.json()
    return answer.status_code, told["code"], told["quota"], told["limit"], told["used"]


@pytest.mark.usefixtures("small")
async def test_projects_made_at_once_at_the_edge_keep_to_the_quota(
    admin: Caller, database: Database, tenant_id: uuid.UUID
) -> None:
    answers = await asyncio.gather(*(admin("POST", "/v1/projects", json={"name": "x"}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [403] * 5
    refused = next(answer for answer in answers if answer.status_code == 403)
    assert figures(refused) == (403, "quota_exceeded", "projects", 3, 3)
    assert await usage(database, tenant_id) == (3, 0, 0)
    made = next(answer for answer in answers if answer.status_code == 201).json()["id"]
    assert (await admin("DELETE", f"/v1/projects/{made}", headers={"If-Match": "*"})).status_code == 204
    await admin.create_project()
    assert figures(await admin("POST", f"/v1/projects/{made}/restore")) == (403, "quota_exceeded", "projects", 3, 3)


@pytest.mark.usefixtures("small")
async def test_documents_uploaded_at_once_at_the_edge_keep_to_the_quota(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    answers = await asyncio.gather(*(admin.upload(project_id, b"x" * 10) for _ in range(9)))
    assert sorted(answer.status_code for answer in answers) == [201] * 4 + [403] * 5
    assert await usage(database, tenant_id) == (1, 4, 40)
    assert figures(await admin.upload(project_id)) == (403, "quota_exceeded", "documents", 4, 4)
    made = next(answer for answer in answers if answer.status_code == 201).json()["id"]
    assert (await admin("DELETE", f"/v1/projects/{project_id}/documents/{made}")).status_code == 204
    assert await usage(database, tenant_id) == (1, 3, 30)
    assert (await admin.upload(project_id)).status_code == 201


@pytest.mark.usefixtures("small")
async def test_bytes_keep_to_the_quota(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    await admin.uploaded(project_id, b"x" * 60)
    answer = await admin.upload(project_id, b"y" * 41)
    assert figures(answer) == (403, "quota_exceeded", "bytes", 100, 60)
    await admin.uploaded(project_id, b"y" * 40)
    assert await usage(database, tenant_id) == (1, 2, 100)


@pytest.mark.usefixtures("small")
async def test_a_document_of_unknown_size_is_refused_before_its_bytes_when_no_byte_is_left(
    admin: Caller, project_id: uuid.UUID
) -> None:
    await admin.uploaded(project_id, b"x" * 100)
    asked_for: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for piece in range(100):
            asked_for.append(piece)
            yield b"y" * 1024

    path = f"/v1/projects/{project_id}/documents"
    answer = await admin("POST", path, params={"name": "a"}, content=body())
    assert figures(answer) == (403, "quota_exceeded", "bytes", 100, 100)
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    form = head + b"y" * 100_000 + b"\r\n--b--\r\n"

    async def parts() -> AsyncIterator[bytes]:
        asked_for.append(-1)
        yield form

    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(len(form))}
    assert figures(await admin("POST", path, headers=headers, content=parts())) == figures(answer)
    assert asked_for == []


async def test_what_was_there_before_anything_was_counted_counts(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    await admin.uploaded(project_id, b"12345")
    assert await usage(database, tenant_id) == (1, 1, 5)


async def delete_tenant(database: Database, tenant_id: uuid.UUID) -> None:
    event = TenantDeleted(tenant_id=tenant_id)
    async with database.tenant(tenant_id) as session:
        await forget_tenant(session, event, envelope_of(event, tenant_id))


async def rows(database: Database, tenant_id: uuid.UUID) -> list[int]:
    async with database.tenant(tenant_id) as session:
        columns = (Project.id, ProjectMember.user_id, Document.id, TenantErasure.tenant_id)
        return [await session.scalar(select(func.count(column))) or 0 for column in columns]


async def test_a_deleted_tenant_leaves_nothing(
    admin: Caller,
    outsider: Caller,
    database: Database,
    tenant_id: uuid.UUID,
    blob_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(erasure, "BATCH", 2)
    others = await outsider.uploaded(await outsider.create_project(), b"stays")
    for _ in range(2):
        project = await admin.create_project()
        for content in (b"same", b"same", b"other"):
            await admin.uploaded(project, content)
    await delete_tenant(database, tenant_id)

    async def gone() -> bool:
        return await rows(database, tenant_id) == [0, 0, 0, 0]

    await eventually(gone, within=10)
    assert list(blob_root.rglob(f"*{tenant_id}*")) == []
    kept = await outsider("GET", f"/v1/projects/{others['project_id']}/documents/{others['id']}/content")
    assert kept.content == b"stays"


async def test_nothing_is_made_for_a_deleted_tenant(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID, blob_root: Path
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await delete_tenant(database, tenant_id)
        yield b"second"

    answer = await admin("POST", f"/v1/projects/{project_id}/documents", params={"name": "a"}, content=body())
    assert code(answer) == (404, "not_found")
    assert code(await admin("POST", "/v1/projects", json={"name": "x"})) == (404, "not_found")

    async def gone() -> bool:
        return await rows(database, tenant_id) == [0, 0, 0, 0]

    await eventually(gone, within=10)
    assert blobs_of(blob_root, tenant_id) == []


async def test_a_tenant_is_not_deleted_by_anothers_event(database: Database, tenant_id: uuid.UUID) -> None:
    event = TenantDeleted(tenant_id=uuid.uuid4())
    with pytest.raises(ValueError, match="another tenant"):
        async with database.tenant(tenant_id) as session:
            await forget_tenant(session, event, envelope_of(event, tenant_id))


async def test_roles_of_who_left_are_taken_back_and_later_ones_stay(
    admin: Caller, database: Database, tenant_id: uuid.UUID, blobs: BlobStore
) -> None:
    first, second = await admin.create_project(), await admin.create_project()
    left = await admin.member(first, "owner")
    other = left.limited()
    admin._tokens.memberships[left.user_id] = 2
    granted = await admin("PUT", f"/v1/projects/{second}/members/{left.user_id}", json={"role": "viewer"})
    assert granted.status_code == 200
    event = MembershipChanged(tenant_id=tenant_id, user_id=left.user_id, role=None, membership_number=1)
    async with database.tenant(tenant_id) as session:
        await note_departure(session, event, envelope_of(event, tenant_id))

    async def roles() -> list[tuple[uuid.UUID, int]]:
        async with database.tenant(tenant_id) as session:
            found = await session.scalars(select(ProjectMember).where(ProjectMember.user_id == other.user_id))
            return [(row.project_id, row.membership_number) for row in found]

    async def taken_back() -> bool:
        return await roles() == [(second, 2)]

    await eventually(taken_back, within=10)
    told = [event for event in await events(database, tenant_id) if event.type == "projects.member.changed.v1"]
    assert [(change.subject, change.data["role"]) for change in told][-1] == (str(first), None)


async def test_who_leaves_again_is_taken_from_who_removes_the_roles_of_before(
    database: Database, tenant_id: uuid.UUID
) -> None:
    user_id = uuid.uuid4()
    async with database.tenant(tenant_id) as session:
        await repository.note_departure(session, user_id=user_id, membership_number=1)
        departure = (await session.scalars(select(Departure))).one()
        await repository.DEPARTURES.renew(session, departure)
        await repository.note_departure(session, user_id=user_id, membership_number=2)
        with pytest.raises(ClaimLost):
            await repository.DEPARTURES.finish(session, departure)
        assert await session.scalar(select(Departure.membership_number)) == 2
