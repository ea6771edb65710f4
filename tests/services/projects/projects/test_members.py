import asyncio
import uuid

from shared.auth import Scope
from shared.tenancy import Database
from tests.services.projects.callers import Caller, announced, code, events
from tests.support.identity import IdentityDouble


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


async def test_only_members_of_the_tenant_become_members(
    admin: Caller, tokens: IdentityDouble, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    """Else an invented owner would stand in for the last real one."""
    stranger = uuid.uuid4()
    tokens.memberships[stranger] = None
    path = f"/v1/projects/{project_id}/members"
    answer = await admin("PUT", f"{path}/{stranger}", json={"role": "owner"})
    assert code(answer) == (422, "not_a_tenant_member")
    assert code(await admin("DELETE", f"{path}/{admin.user_id}")) == (409, "last_owner")
    assert len(await announced(database, tenant_id)) == 1


async def test_an_owner_who_left_the_tenant_is_no_owner(
    admin: Caller, tokens: IdentityDouble, project_id: uuid.UUID
) -> None:
    """Known at once, before any event of it arrives."""
    left = await admin.member(project_id, "owner")
    path = f"/v1/projects/{project_id}/members"
    for number in (None, 2):
        tokens.memberships[left.user_id] = number
        assert code(await admin("DELETE", f"{path}/{admin.user_id}")) == (409, "last_owner")
        listed = (await admin("GET", path)).json()["items"]
        assert [item["user_id"] for item in listed] == [str(admin.user_id)]
    assert (await admin("DELETE", f"{path}/{left.user_id}")).status_code == 204


async def test_a_role_does_not_come_back_with_its_holder(
    admin: Caller, tokens: IdentityDouble, neighbour: Caller, project_id: uuid.UUID
) -> None:
    editor = await admin.member(project_id, "editor")
    path = f"/v1/projects/{project_id}"
    tokens.memberships[editor.user_id] = 2
    returned = editor.limited(membership_number=2)
    assert code(await returned("GET", path)) == (404, "not_found")
    assert (await returned("GET", "/v1/projects")).json()["items"] == []
    asked = {"user_id": str(editor.user_id), "membership_number": "2"}
    assert code(await neighbour("GET", f"/internal{path[3:]}/access", params=asked)) == (404, "not_found")
    granted = await admin("PUT", f"{path}/members/{editor.user_id}", json={"role": "editor"})
    assert granted.status_code == 200
    assert (await returned("GET", path)).json()["role"] == "editor"
    assert (await neighbour("GET", f"/internal{path[3:]}/access", params=asked)).status_code == 200
    assert code(await editor("GET", path)) == (404, "not_found")


async def test_members_do_not_change_while_identity_is_away(
    admin: Caller, tokens: IdentityDouble, project_id: uuid.UUID
) -> None:
    tokens.away = True
    try:
        answer = await admin("PUT", f"/v1/projects/{project_id}/members/{uuid.uuid4()}", json={"role": "viewer"})
    finally:
        tokens.away = False
    assert code(answer) == (503, "unavailable")


async def test_who_may_not_change_members_learns_nothing_of_users(
    admin: Caller, tokens: IdentityDouble, outsider: Caller, project_id: uuid.UUID
) -> None:
    viewer = await admin.member(project_id, "viewer")
    stranger = uuid.uuid4()
    tokens.memberships[stranger] = None
    for caller, refused in ((viewer, (403, "forbidden")), (outsider, (404, "not_found"))):
        for user_id in (stranger, admin.user_id):
            path = f"/v1/projects/{project_id}/members/{user_id}"
            assert code(await caller("PUT", path, json={"role": "viewer"})) == refused


async def test_nobody_gives_a_role_that_allows_more_than_it_may(admin: Caller, project_id: uuid.UUID) -> None:
    owner = await admin.member(project_id, "owner")
    user = (await admin.member(project_id, None)).user_id
    reads = {Scope.MEMBERS_ADMIN, Scope.PROJECTS_READ, Scope.DOCUMENTS_READ, Scope.SEARCH, Scope.EVENTS_READ}
    path = f"/v1/projects/{project_id}/members/{user}"
    for grantor in (admin, owner):
        for key, role, status in (
            (grantor.limited(scopes={Scope.MEMBERS_ADMIN}), "viewer", 403),
            (grantor.limited(scopes=reads), "editor", 403),
            (grantor.limited(scopes=reads), "owner", 403),
            (grantor.limited(project_id=project_id), "viewer", 403),
            (grantor.limited(scopes=reads), "viewer", 200),
            (grantor, "owner", 200),
            (grantor, "viewer", 200),
        ):
            answer = await key("PUT", path, json={"role": role})
            assert answer.status_code == status, answer.text
            assert status == 200 or code(answer) == (403, "grant_too_wide")
