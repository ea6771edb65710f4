"""Guards of streams that no other test would miss if they were gone; see `tests/isolation/mutations`."""

import uuid

from shared.tenancy import Database
from tests.services.notifier.feeding import append, new_event
from tests.services.notifier.running import Neighbours, Replica


async def test_a_replay_is_one_projects(
    replica: Replica, database: Database, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    mine, other = neighbours.add_project(), neighbours.add_project()
    subject = uuid.uuid4()
    for project_id in (other, mine, other):
        await append(database, tenant_id, new_event(project_id, subject_id=subject if project_id == mine else None))
    async with replica.listen(tenant_id, mine, last_event_id=0) as stream:
        assert (await stream.event()).event == "document.uploaded"
        assert (await stream.event()).event == "snapshot"


async def test_the_tenants_feed_is_no_project(
    replica: Replica, database: Database, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    """Its id is the tenant's, which every member knows: asked for as a project it does not exist, whoever asks."""
    neighbours.projects[tenant_id] = {
        "project_id": str(tenant_id), "status": "active", "revision": 1, "members": [],
    }  # fmt: skip
    await append(database, tenant_id, new_event(neighbours.add_project()))
    path = f"/v1/projects/{tenant_id}/events"
    assert await replica.refusal(path, replica.headers(tenant_id)) == (404, "not_found")


async def test_the_projects_of_other_members_are_not_a_members_own(
    replica: Replica, neighbours: Neighbours, database: Database, tenant_id: uuid.UUID
) -> None:
    """Both projects are known here, each with the role of one of two members."""
    members = [uuid.uuid4(), uuid.uuid4()]
    projects = [neighbours.add_project(members={member: "viewer"}) for member in members]
    for member, project_id in zip(members, projects, strict=True):
        async with replica.listen(tenant_id, project_id, user_id=member, tenant_role="member") as stream:
            await stream.live()
        await append(database, tenant_id, new_event(project_id))
    for member, expected in zip(members, ("1", "2"), strict=True):
        async with replica.listen(tenant_id, last_event_id=0, user_id=member, tenant_role="member") as stream:
            assert (await stream.event()).id == expected
            assert (await stream.event()).event == "snapshot"
