import asyncio
import uuid
from typing import Any

import httpx
import pytest

from services.projects.metadata import MAX_BYTES, MAX_DEPTH
from shared.auth import Scope
from shared.tenancy import Database
from tests.services.projects.callers import Caller, announced, code, events


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"in": value}
    return value


async def test_a_created_project_is_answered_in_full(admin: Caller) -> None:
    body = {"name": " Papers ", "description": "All of them\nand more", "metadata": {"team": "search"}}
    answer = await admin("POST", "/v1/projects", json=body)
    assert answer.status_code == 201
    project = answer.json()
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["location"] == f"/v1/projects/{project['id']}"
    assert set(project) == {
        "id", "name", "description", "metadata", "role", "status", "document_count", "document_counts",
        "document_bytes", "created_at", "updated_at",
    }  # fmt: skip
    assert project["name"] == "Papers"
    assert project["metadata"] == {"team": "search"}
    assert (project["role"], project["status"], project["document_count"]) == ("owner", "active", 0)
    assert project["created_at"].endswith("Z")
    assert uuid.UUID(project["id"]).version == 7
    assert (await admin("GET", f"/v1/projects/{project['id']}")).json() == project


async def test_creating_announces_the_project_and_its_owner(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    (envelope,) = await events(database, tenant_id)
    assert envelope.type == "projects.project.created.v1"
    assert envelope.sequence == 1
    assert envelope.data["owner_id"] == str(admin.user_id)
    assert envelope.data["project_id"] == str(project_id)
    assert envelope.correlationid
    assert envelope.traceparent
    members = (await admin("GET", f"/v1/projects/{project_id}/members")).json()
    assert [(member["user_id"], member["role"]) for member in members["items"]] == [(str(admin.user_id), "owner")]


async def test_only_tenant_admins_create_projects(admin: Caller, neighbour: Caller) -> None:
    body = {"name": "Mine"}
    member = Caller(admin._client, admin._tokens, tenant_id=admin.tenant_id, tenant_role="member")
    assert code(await member("POST", "/v1/projects", json=body)) == (403, "forbidden")
    read_only = admin.limited(scopes={Scope.PROJECTS_READ})
    assert code(await read_only("POST", "/v1/projects", json=body)) == (403, "forbidden")
    assert code(await neighbour("POST", "/v1/projects", json=body)) == (403, "forbidden")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "  "},
        {"name": "x" * 201},
        {"name": "a\x00b"},
        {"name": "two\nlines"},
        {"name": "x", "description": "nul\x00"},
        {"name": "x", "description": "x" * 4001},
        {"name": "x", "tenant_id": str(uuid.uuid4())},
        {"name": "x", "metadata": []},
        {"name": "x", "metadata": {"big": "x" * MAX_BYTES}},
        {"name": "x", "metadata": nested(MAX_DEPTH + 1)},
        {"name": "x", "metadata": {"list": [[[[[[[[1]]]]]]]]}},
        {"name": "x", "metadata": {"nul": ["\x00"]}},
        {"name": "x", "metadata": {"n\x00ul": 1}},
        {"name": "x", "metadata": {"huge": 2**70}},
    ],
)
async def test_an_unacceptable_project_is_refused(admin: Caller, body: dict[str, Any]) -> None:
    assert code(await admin("POST", "/v1/projects", json=body)) == (422, "validation_failed")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"name": "x", "metadata": {"n": NaN}}',
        b'{"name": "x", "metadata": {"n": 1e400}}',
        b'{"name": "x", "metadata": {"n": "\\ud800"}}',
        b'{"name": "\\ud800"}',
        b'{"name": "x", "metadata": {"n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"name": "x", "metadata": {"n": ' + b"9" * 5000 + b"}}",
        b'{"name": "x",',
        b"\xff\xfe",
    ],
)
async def test_json_that_no_store_can_keep_is_refused(admin: Caller, raw: bytes) -> None:
    answer = await admin("POST", "/v1/projects", content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_metadata_at_its_limits_is_kept(admin: Caller) -> None:
    metadata = {"deep": nested(MAX_DEPTH - 1), "n": 2**63 - 1, "text": "ü" * 1000, "list": [1, 1.5, None, True]}
    project_id = await admin.create_project(metadata=metadata)
    assert (await admin("GET", f"/v1/projects/{project_id}")).json()["metadata"] == metadata


async def test_projects_are_listed_newest_first_page_by_page(admin: Caller) -> None:
    ids = [str(await admin.create_project(name=f"Project {number}")) for number in range(5)]
    listed: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        page = (
            await admin("GET", "/v1/projects", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        ).json()
        listed += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert listed == ids[::-1]
    assert cursor is None


@pytest.mark.parametrize("cursor", ["x", "bm9wZQ", "W10", "eyJhIjoxfQ"])
async def test_an_invented_cursor_is_refused(admin: Caller, project_id: uuid.UUID, cursor: str) -> None:
    for path in ("/v1/projects", f"/v1/projects/{project_id}/members", f"/v1/projects/{project_id}/documents"):
        assert code(await admin("GET", path, params={"cursor": cursor})) == (400, "invalid_cursor")


async def test_members_see_the_projects_they_have_a_role_in(admin: Caller, project_id: uuid.UUID) -> None:
    await admin.create_project(name="Hidden")
    editor = await admin.member(project_id, "editor")
    page = (await editor("GET", "/v1/projects")).json()
    assert [(item["id"], item["role"]) for item in page["items"]] == [(str(project_id), "editor")]
    assert (await editor("GET", f"/v1/projects/{project_id}")).json()["role"] == "editor"
    assert len((await admin("GET", "/v1/projects")).json()["items"]) == 2


async def test_tenant_admins_are_shown_as_owners(admin: Caller, project_id: uuid.UUID) -> None:
    other = Caller(admin._client, admin._tokens, tenant_id=admin.tenant_id, tenant_role="admin")
    assert (await other("GET", f"/v1/projects/{project_id}")).json()["role"] == "owner"
    assert [item["role"] for item in (await other("GET", "/v1/projects")).json()["items"]] == ["owner"]


async def test_a_credential_tied_to_a_project_sees_only_that_one(admin: Caller, project_id: uuid.UUID) -> None:
    other_id = await admin.create_project(name="Other")
    tied = admin.limited(project_id=project_id)
    assert [item["id"] for item in (await tied("GET", "/v1/projects")).json()["items"]] == [str(project_id)]
    assert code(await tied("GET", f"/v1/projects/{other_id}")) == (404, "not_found")
    assert code(await tied("POST", "/v1/projects", json={"name": "x"})) == (403, "forbidden")


async def test_a_patch_changes_what_it_names(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    path = f"/v1/projects/{project_id}"
    before = (await admin("GET", path)).json()
    answer = await admin("PATCH", path, json={"description": "new"}, headers={"If-Match": '"1"'})
    assert answer.status_code == 200
    assert answer.headers["etag"] == '"2"'
    after = answer.json()
    assert (after["name"], after["description"]) == (before["name"], "new")
    assert after["updated_at"] > before["updated_at"]
    answer = await admin("PATCH", path, json={"name": "New", "metadata": {"a": 1}}, headers={"If-Match": '"9", "2"'})
    assert (answer.json()["name"], answer.json()["metadata"]) == ("New", {"a": 1})
    assert await announced(database, tenant_id) == [
        ("project.created", 1),
        ("project.updated", 2),
        ("project.updated", 3),
    ]


async def test_a_patch_of_nothing_changes_nothing(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    answer = await admin("PATCH", f"/v1/projects/{project_id}", json={}, headers={"If-Match": "*"})
    assert answer.headers["etag"] == '"1"'
    assert len(await announced(database, tenant_id)) == 1


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_changing_a_project_needs_its_present_revision(admin: Caller, project_id: uuid.UUID, method: str) -> None:
    path = f"/v1/projects/{project_id}"
    options: dict[str, Any] = {"json": {"name": "New"}} if method == "PATCH" else {}
    assert code(await admin(method, path, **options)) == (428, "precondition_required")
    for stale in ('"2"', 'W/"1"', "1", ""):
        answer = await admin(method, path, headers={"If-Match": stale}, **options)
        assert code(answer) == (412, "precondition_failed")
    assert (await admin("GET", path)).headers["etag"] == '"1"'


async def test_explicit_nulls_are_refused(admin: Caller, project_id: uuid.UUID) -> None:
    for field in ("name", "description", "metadata"):
        answer = await admin("PATCH", f"/v1/projects/{project_id}", json={field: None}, headers={"If-Match": "*"})
        assert code(answer) == (422, "validation_failed")


async def test_a_deleted_project_is_gone_until_it_is_restored(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    path = f"/v1/projects/{project_id}"
    document = await admin.uploaded(project_id)
    answer = await admin("DELETE", path, headers={"If-Match": '"1"'})
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await admin("GET", "/v1/projects")).json()["items"] == []
    for gone in (path, f"{path}/members", f"{path}/documents", f"{path}/documents/{document['id']}/content"):
        assert code(await admin("GET", gone)) == (404, "not_found")
    assert code(await admin.upload(project_id)) == (404, "not_found")
    (item,) = (await admin("GET", "/v1/projects", params={"status": "deleted"})).json()["items"]
    assert (item["id"], item["status"]) == (str(project_id), "deleted")

    answer = await admin("POST", f"{path}/restore")
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["document_count"]) == ("active", 1)
    assert answer.headers["etag"] == '"3"'
    assert (await admin("GET", path)).json() == answer.json()
    assert (await admin("GET", f"{path}/documents/{document['id']}")).status_code == 200
    assert (await admin("POST", f"{path}/restore")).headers["etag"] == '"3"'
    assert await announced(database, tenant_id) == [
        ("project.created", 1), ("document.uploaded", 1), ("project.deleted", 2), ("project.restored", 3),
    ]  # fmt: skip


async def test_lower_roles_may_not_change_a_project(admin: Caller, project_id: uuid.UUID) -> None:
    path = f"/v1/projects/{project_id}"
    for caller in (
        await admin.member(project_id, "viewer"),
        await admin.member(project_id, "editor"),
        admin.limited(scopes={Scope.PROJECTS_READ}),
    ):
        match = {"If-Match": "*"}
        assert code(await caller("PATCH", path, json={"name": "x"}, headers=match)) == (403, "forbidden")
        assert code(await caller("DELETE", path, headers=match)) == (403, "forbidden")
        assert code(await caller("POST", f"{path}/restore")) == (403, "forbidden")
    blind = admin.limited(scopes={Scope.DOCUMENTS_READ})
    assert code(await blind("GET", path)) == (403, "forbidden")
    assert code(await blind("GET", "/v1/projects")) == (403, "forbidden")
    owner = await admin.member(project_id, "owner")
    assert (await owner("PATCH", path, json={"name": "x"}, headers={"If-Match": "*"})).status_code == 200


async def test_a_token_without_a_tenant_is_refused(client: httpx.AsyncClient, admin: Caller) -> None:
    nowhere = Caller(client, admin._tokens, tenant_id=None, tenant_role=None)
    assert code(await nowhere("GET", "/v1/projects")) == (403, "forbidden")
    assert code(await nowhere.upload(uuid.uuid4())) == (403, "forbidden")


async def test_two_changes_at_once_leave_one_winner(admin: Caller, project_id: uuid.UUID) -> None:
    answers = await asyncio.gather(
        *(
            admin("PATCH", f"/v1/projects/{project_id}", json={"name": f"N{n}"}, headers={"If-Match": '"1"'})
            for n in range(4)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]
