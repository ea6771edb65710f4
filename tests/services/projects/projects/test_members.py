import asyncio
import uuid

from shared.auth import Scope
from shared.tenancy import Database
from tests.services.projects.callers import Caller, announced, code, events


async def test_a_member_gets_another_role_and_loses_it(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    user_id = uuid.uuid4()
    path = f"/v1/projects/{project_id}/members/{user_id}"
    answer = await admin("PUT", path, json={"role": "viewer"})
    assert answer.status_code == 200
    assert set(answer.json()) == {"user_id", "role", "created_at", "updated_at"}
    assert (answer.json()["user_id"], answer.json()["role"]) == (str(user_id), "viewer")
    assert (await admin("PUT", path, json={"role": "editor"})).json()["role"] == "editor"
    assert (await admin("PUT", path, json={"role": "editor"})).json()["role"] == "editor"
    assert (await admin("DELETE", path)).status_code == 204
    assert code(await admin("DELETE", path)) == (404, "not_found")
    changes = [event for event in await events(database, tenant_id) if event.type == "projects.member.changed.v1"]
    assert [(change.data["role"], change.sequence) for change in changes] == [("viewer", 2), ("editor", 3), (None, 4)]
    assert {change.subject for change in changes} == {str(project_id)}


async def test_a_member_change_is_a_revision_of_the_project(admin: Caller, project_id: uuid.UUID) -> None:
    await admin.member(project_id, "viewer")
    answer = await admin("PATCH", f"/v1/projects/{project_id}", json={"name": "x"}, headers={"If-Match": '"1"'})
    assert code(answer) == (412, "precondition_failed")


async def test_members_are_listed_newest_first_page_by_page(admin: Caller, project_id: uuid.UUID) -> None:
    expected = [admin.user_id, *[(await admin.member(project_id, "viewer")).user_id for _ in range(4)]]
    path = f"/v1/projects/{project_id}/members"
    first = (await admin("GET", path, params={"limit": 3})).json()
    second = (await admin("GET", path, params={"limit": 3, "cursor": first["next_cursor"]})).json()
    listed = [item["user_id"] for item in first["items"] + second["items"]]
    assert listed == [str(user_id) for user_id in reversed(expected)]
    assert second["next_cursor"] is None


async def test_the_last_owner_stays(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    path = f"/v1/projects/{project_id}/members/{admin.user_id}"
    assert code(await admin("DELETE", path)) == (409, "last_owner")
    assert code(await admin("PUT", path, json={"role": "editor"})) == (409, "last_owner")
    assert len(await announced(database, tenant_id)) == 1
    heir = await admin.member(project_id, "owner")
    assert (await heir("DELETE", path)).status_code == 204
    assert code(await heir("DELETE", f"/v1/projects/{project_id}/members/{heir.user_id}")) == (409, "last_owner")


async def test_two_owners_removed_at_once_leave_one(admin: Caller, project_id: uuid.UUID) -> None:
    other = await admin.member(project_id, "owner")
    answers = await asyncio.gather(
        *(admin("DELETE", f"/v1/projects/{project_id}/members/{user}") for user in (admin.user_id, other.user_id))
    )
    assert sorted(answer.status_code for answer in answers) == [204, 409]


async def test_only_owners_change_members(admin: Caller, project_id: uuid.UUID) -> None:
    viewer = await admin.member(project_id, "viewer")
    path = f"/v1/projects/{project_id}/members"
    for caller in (viewer, await admin.member(project_id, "editor"), admin.limited(scopes={Scope.PROJECTS_READ})):
        assert (await caller("GET", path)).status_code == 200
        put = await caller("PUT", f"{path}/{viewer.user_id}", json={"role": "owner"})
        assert code(put) == (403, "forbidden")
        assert code(await caller("DELETE", f"{path}/{viewer.user_id}")) == (403, "forbidden")


async def test_an_unknown_role_is_refused(admin: Caller, project_id: uuid.UUID) -> None:
    for body in ({"role": "king"}, {}, {"role": "viewer", "tenant_role": "owner"}):
        answer = await admin("PUT", f"/v1/projects/{project_id}/members/{uuid.uuid4()}", json=body)
        assert code(answer) == (422, "validation_failed")


async def test_a_removed_member_sees_the_project_no_more(admin: Caller, project_id: uuid.UUID) -> None:
    viewer = await admin.member(project_id, "viewer")
    assert (await viewer("GET", f"/v1/projects/{project_id}")).status_code == 200
    await admin("DELETE", f"/v1/projects/{project_id}/members/{viewer.user_id}")
    assert code(await viewer("GET", f"/v1/projects/{project_id}")) == (404, "not_found")


async def test_neighbours_are_told_who_may_see_a_project(
    admin: Caller, neighbour: Caller, project_id: uuid.UUID
) -> None:
    viewer = await admin.member(project_id, "viewer")
    path = f"/internal/projects/{project_id}/access"
    access = (await neighbour("GET", path)).json()
    assert (access["project_id"], access["status"], access["revision"]) == (str(project_id), "active", 2)
    assert {member["user_id"]: member["role"] for member in access["members"]} == {
        str(admin.user_id): "owner",
        str(viewer.user_id): "viewer",
    }
    assert (await neighbour("GET", path, params={"user_id": str(viewer.user_id)})).json() == access
    stranger = await neighbour("GET", path, params={"user_id": str(uuid.uuid4())})
    assert code(stranger) == (404, "not_found")
    await admin("DELETE", f"/v1/projects/{project_id}", headers={"If-Match": "*"})
    access = (await neighbour("GET", path)).json()
    assert (access["status"], access["revision"], len(access["members"])) == ("deleted", 3, 2)
    assert code(await neighbour("GET", f"/internal/projects/{uuid.uuid4()}/access")) == (404, "not_found")
