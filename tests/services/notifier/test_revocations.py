"""Access that goes while a stream is open ends the stream, on every replica."""

import asyncio
import time
import uuid
from collections.abc import Callable

import orjson
import pytest
from redis.asyncio import Redis

from services.notifier.streams.connection import Connection
from services.notifier.streams.revocations import RENEW_WITHIN, Revocations
from shared.background import run_in_background
from shared.events.envelope import Event
from shared.events.identity import ApiKeyRevoked, MembershipChanged, SessionRevoked, TenantDeleted
from shared.events.projects import ProjectCreated, ProjectDeleted, ProjectMemberChanged, ProjectRestored
from shared.project_access import ProjectAccess
from shared.tenancy import Database
from tests.services.notifier.feeding import append, new_event, uploaded
from tests.services.notifier.running import Neighbours, Publish, Replica, Replicas, Who
from tests.support.polling import eventually

USER, CREDENTIAL = uuid.uuid4(), uuid.uuid4()


@pytest.mark.parametrize(
    "event",
    [
        lambda tenant_id: SessionRevoked(session_id=CREDENTIAL, user_id=USER),
        lambda tenant_id: ApiKeyRevoked(api_key_id=CREDENTIAL, user_id=USER),
        lambda tenant_id: MembershipChanged(tenant_id=tenant_id, user_id=USER, role=None),
    ],
)
async def test_a_revoked_credential_ends_its_streams_and_no_others(
    replica: Replica,
    neighbours: Neighbours,
    tenant_id: uuid.UUID,
    publish: Publish,
    event: Callable[[uuid.UUID], Event],
) -> None:
    project_id = neighbours.add_project()
    mine: Who = {"user_id": USER, "credential_id": CREDENTIAL}
    async with (
        replica.listen(tenant_id, project_id, **mine) as revoked,
        replica.listen(tenant_id, **mine) as wide,
        replica.listen(tenant_id, project_id) as other,
    ):
        for stream in (revoked, wide, other):
            await stream.live()
        await publish(tenant_id, event(tenant_id))
        await asyncio.gather(revoked.end(within=5), wide.end(within=5))
        await publish(tenant_id, uploaded(project_id))
        assert (await other.event()).event == "document.uploaded"


async def test_a_stream_reopened_with_a_token_from_before_ends_again(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish
) -> None:
    project_id = neighbours.add_project()
    async with replica.listen(tenant_id, project_id, credential_id=CREDENTIAL) as stream:
        await stream.live()
        await publish(tenant_id, ApiKeyRevoked(api_key_id=CREDENTIAL, user_id=USER))
        await stream.end(within=5)
    async with replica.listen(tenant_id, project_id, credential_id=CREDENTIAL) as stream:
        await stream.end(within=5)


async def test_a_stream_with_the_role_the_event_tells_of_goes_on(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish
) -> None:
    project_id = neighbours.add_project()
    async with replica.listen(tenant_id, project_id, user_id=USER, tenant_role="admin") as stream:
        await stream.live()
        await publish(tenant_id, MembershipChanged(tenant_id=tenant_id, user_id=USER, role="admin"))
        await publish(tenant_id, uploaded(project_id))
        assert (await stream.event()).event == "document.uploaded"
        await publish(tenant_id, MembershipChanged(tenant_id=tenant_id, user_id=USER, role="member"))
        await stream.end(within=5)


async def test_a_deleted_tenants_streams_end(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish
) -> None:
    async with replica.listen(tenant_id) as stream, replica.listen(uuid.uuid4()) as other:
        await stream.live()
        await other.live()
        await publish(tenant_id, TenantDeleted(tenant_id=tenant_id))
        await stream.end(within=5)
        assert other.answer.content.at_eof() is False


async def test_a_removed_member_is_cut_off_on_every_replica(
    replica: Replica, replicas: Replicas, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish
) -> None:
    member, stays = uuid.uuid4(), uuid.uuid4()
    project_id = neighbours.add_project(members={member: "editor", stays: "viewer"})
    who: Who = {"user_id": member, "tenant_role": "member"}
    async with (
        replicas(poll_seconds=600) as second,
        replica.listen(tenant_id, project_id, **who) as here,
        second.listen(tenant_id, project_id, **who) as there,
        second.listen(tenant_id, **who) as wide,
        second.listen(tenant_id, project_id, user_id=stays, tenant_role="member") as other,
    ):
        for stream in (here, there, wide, other):
            await stream.live()
        await publish(tenant_id, ProjectMemberChanged(project_id=project_id, user_id=member, role=None))
        await asyncio.gather(here.end(within=5), there.end(within=5), wide.end(within=5))
        assert (await other.event()).event == "member.changed"
        path = f"/v1/projects/{project_id}/events"

        async def refused() -> bool:
            return await second.refusal(path, second.headers(tenant_id, **who)) == (404, "not_found")

        await eventually(refused, within=5)


async def test_an_admin_keeps_its_streams_when_its_role_in_a_project_goes(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish
) -> None:
    project_id = neighbours.add_project()
    async with replica.listen(tenant_id, project_id, user_id=USER, tenant_role="admin") as stream:
        await stream.live()
        await publish(tenant_id, ProjectMemberChanged(project_id=project_id, user_id=USER, role=None))
        await publish(tenant_id, uploaded(project_id))
        assert [(await stream.event()).event for _ in range(2)] == ["member.changed", "document.uploaded"]


@pytest.mark.parametrize("how", ["created", "granted", "restored"])
async def test_a_member_that_may_see_more_is_let_in_anew(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish, how: str
) -> None:
    member = uuid.uuid4()
    who: Who = {"user_id": member, "tenant_role": "member"}
    project_id = uuid.uuid4()
    created = ProjectCreated(project_id=project_id, name="New", owner_id=member if how != "granted" else uuid.uuid4())
    if how != "created":
        await publish(tenant_id, created)
    if how == "restored":
        await publish(tenant_id, ProjectDeleted(project_id=project_id))
        await eventually(lambda: _seen(replica, tenant_id, "project.deleted"))
    async with replica.listen(tenant_id, **who) as stream:
        await stream.live()
        if how == "created":
            await publish(tenant_id, created)
        elif how == "granted":
            await publish(tenant_id, ProjectMemberChanged(project_id=project_id, user_id=member, role="viewer"))
        else:
            await publish(tenant_id, ProjectRestored(project_id=project_id))
        await stream.end(within=10)
    async with replica.listen(tenant_id, **who) as stream:
        await stream.live()
        await publish(tenant_id, uploaded(project_id))
        assert (await stream.event("document.uploaded")).data["project_id"] == str(project_id)


async def _seen(replica: Replica, tenant_id: uuid.UUID, type: str) -> bool:
    async with replica.listen(tenant_id, last_event_id=0) as stream:
        while (block := await stream.event()).event != "snapshot":
            if block.event == type:
                return True
    return False


async def test_events_nobody_can_read_do_not_stop_the_watch(
    replica: Replica, neighbours: Neighbours, tenant_id: uuid.UUID, publish: Publish, redis_client: Redis
) -> None:
    async with replica.listen(tenant_id, credential_id=CREDENTIAL) as stream:
        await stream.live()
        for raw in (b"{", b"[]", b"{}", orjson.dumps({"type": SessionRevoked.type}), orjson.dumps({"type": []})):
            await redis_client.xadd("events.identity", {"event": raw})
        await publish(tenant_id, SessionRevoked(session_id=CREDENTIAL, user_id=USER))
        await stream.end(within=5)


async def test_after_a_gap_in_projects_everybody_is_checked(
    replica: Replica, database: Database, neighbours: Neighbours, tenant_id: uuid.UUID
) -> None:
    member, stays = uuid.uuid4(), uuid.uuid4()
    project_id = neighbours.add_project(members={member: "viewer", stays: "viewer"})
    streaming = replica.streaming
    revocations = Revocations(streaming.connections, database, streaming.directory)
    async with (
        run_in_background(revocations.run, name="revocations"),
        replica.listen(tenant_id, project_id, user_id=member, tenant_role="member") as removed,
        replica.listen(tenant_id, project_id, user_id=stays, tenant_role="member") as kept,
    ):
        await removed.live()
        await kept.live()
        async with database.tenant(tenant_id) as session:
            access = await session.get_one(ProjectAccess, (tenant_id, project_id, member))
            access.role = None
        revocations.on_projects_gap()
        await removed.end(within=5)
        await append(database, tenant_id, new_event(project_id))
        streaming.hub.wake(_only(streaming.connections.of_tenant(tenant_id)).key, 1)
        assert (await kept.event()).id == "1"


async def test_access_that_cannot_be_checked_is_checked_again(
    replica: Replica, database: Database, neighbours: Neighbours, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = uuid.uuid4()
    project_id = neighbours.add_project(members={member: "viewer"})
    streaming = replica.streaming
    revocations = Revocations(streaming.connections, database, streaming.directory)
    async with replica.listen(tenant_id, project_id, user_id=member, tenant_role="member") as stream:
        await stream.live()
        async with database.tenant(tenant_id) as session:
            (await session.get_one(ProjectAccess, (tenant_id, project_id, member))).role = None
        failures = iter([OSError("no route")])
        open_transaction = database.tenant

        def flaky(tenant: uuid.UUID) -> object:
            for failure in failures:
                raise failure
            return open_transaction(tenant)

        monkeypatch.setattr(database, "tenant", flaky)
        revocations.on_projects_gap()
        async with run_in_background(revocations.run, name="revocations"):
            await stream.end(within=5)


async def test_after_a_gap_in_identity_every_stream_is_renewed(
    replica: Replica, database: Database, tenant_id: uuid.UUID
) -> None:
    streaming = replica.streaming
    async with replica.listen(tenant_id) as stream:
        await stream.live()
        connection = _only(streaming.connections.of_tenant(tenant_id))
        Revocations(streaming.connections, database, streaming.directory).on_identity_gap()
        assert connection.ends_at <= time.monotonic() + RENEW_WITHIN
        connection.ends_at = 0
        assert (await stream.end(within=5))[-1].comments == ["resume"]


def _only(connections: list[Connection]) -> Connection:
    (connection,) = connections
    return connection
