"""What identity revokes has stopped counting when identity is told so; nothing is remembered without its lease."""

import asyncio
import uuid

import aiohttp
import pytest
from starlette.types import Receive, Send

from services.gateway.admission import revocations
from shared.events.envelope import Event
from shared.events.identity import ApiKeyRevoked, MembershipChanged, SessionRevoked, TenantCreated, TenantDeleted
from tests.services.gateway.conftest import Gateway
from tests.services.gateway.doubles import Account, Seen, Services
from tests.services.gateway.wire import Wire
from tests.support.polling import eventually


async def _status(gateway: Gateway, headers: dict[str, str]) -> int:
    async with gateway.client.get("/v1/projects", headers=headers) as answer:
        return answer.status


async def _leased(gateway: Gateway) -> None:
    await gateway.resources.lease.wait(10)
    assert gateway.resources.lease.current


def _event(kind: str, account: Account) -> Event:
    tenant_id = account.tenant_id
    assert tenant_id is not None
    if kind == "session":
        return SessionRevoked(session_id=account.credential_id, user_id=account.user_id)
    if kind == "api_key":
        return ApiKeyRevoked(api_key_id=account.credential_id, user_id=account.user_id)
    if kind == "membership":
        return MembershipChanged(tenant_id=tenant_id, user_id=account.user_id, role=None)
    return TenantDeleted(tenant_id=tenant_id)


@pytest.mark.parametrize("kind", ["session", "api_key", "membership", "tenant"])
async def test_a_revoked_credential_has_stopped_counting(gateway: Gateway, services: Services, kind: str) -> None:
    headers, account = services.identity.new_session() if kind == "session" else services.identity.new_key()
    await _leased(gateway)
    assert await _status(gateway, headers) == 200
    bystander, _ = services.identity.new_key()
    assert await _status(gateway, bystander) == 200
    services.identity.accounts = {key: known for key, known in services.identity.accounts.items() if known != account}
    assert await _status(gateway, headers) == 200  # remembered, until the gateway is told
    await services.identity.leases.tell(_event(kind, account))
    assert await _status(gateway, headers) == 401
    exchanges = len(services.identity.exchanges)
    assert await _status(gateway, bystander) == 200
    assert len(services.identity.exchanges) == exchanges


async def test_other_events_leave_the_cache_alone_and_unreadable_ones_clear_it(
    gateway: Gateway, services: Services
) -> None:
    headers, account = services.identity.new_key()
    await _leased(gateway)
    assert await _status(gateway, headers) == 200
    cache = gateway.resources.cache
    generation = cache.generation
    await services.identity.leases.tell(TenantCreated(tenant_id=uuid.uuid4(), name="t", owner_id=account.user_id))
    assert (len(cache), cache.generation) == (1, generation)
    await services.identity.leases.tell(b"{not json")
    assert (len(cache), cache.generation) == (0, generation + 1)


async def test_without_a_lease_every_request_is_asked_about(gateway: Gateway, services: Services) -> None:
    headers, account = services.identity.new_key()
    await _leased(gateway)
    assert await _status(gateway, headers) == 200
    services.identity.leases.refusing = True

    async def without() -> bool:
        return not gateway.resources.lease.current

    await eventually(without, within=10)
    asked = len(services.identity.exchanges)
    assert [await _status(gateway, headers) for _ in range(3)] == [200] * 3
    assert len(services.identity.exchanges) == asked + 3
    known = services.identity.accounts
    services.identity.accounts = {}
    assert await _status(gateway, headers) == 401
    services.identity.accounts = known
    services.identity.leases.refusing = False
    await _leased(gateway)
    await services.identity.leases.tell(_event("api_key", account))


async def test_a_request_does_not_share_a_question_older_than_a_revocation(
    gateway: Gateway, services: Services
) -> None:
    headers, account = services.identity.new_key()
    await _leased(gateway)
    services.identity.available.clear()
    early = asyncio.create_task(_status(gateway, headers))

    async def asked() -> bool:
        return len(services.identity.exchanges) == 1

    await eventually(asked)
    await services.identity.leases.tell(_event("api_key", account))
    late = asyncio.create_task(_status(gateway, headers))
    await asyncio.sleep(0.05)
    services.identity.available.set()
    assert await late == 200
    assert await early == 200
    # Both were told what the credential is worth after the revocation.
    assert len(services.identity.exchanges) == 2


@pytest.mark.parametrize("counts", [True, False], ids=["changed", "ended"])
async def test_what_a_credential_is_worth_is_asked_again_when_a_body_took_its_time(
    gateway: Gateway, services: Services, counts: bool
) -> None:
    headers, account = services.identity.new_key()
    await _leased(gateway)
    wire = await gateway.wire()
    await _begin(wire, headers)

    async def under_way() -> bool:
        return len(gateway.resources.calls) == 1

    await eventually(under_way)
    if not counts:
        services.identity.accounts.clear()
    await services.identity.leases.tell(_event("api_key", account))
    await wire.send(b'"name": "n"}')
    assert (await wire.answer()).status == (200 if counts else 401)
    assert len(services.identity.exchanges) == 2
    assert len(services.projects.seen) == counts


async def test_an_answer_outdated_on_its_way_is_asked_for_again(gateway: Gateway, services: Services) -> None:
    headers, account = services.identity.new_key()
    await _leased(gateway)
    wire = await gateway.wire()
    await _begin(wire, headers)

    async def under_way() -> bool:
        return len(gateway.resources.calls) == 1

    await eventually(under_way)
    await services.identity.leases.tell(_event("api_key", account))
    services.identity.available.clear()
    await wire.send(b'"name": "n"}')

    async def asked() -> bool:
        return len(services.identity.exchanges) == 2

    await eventually(asked)
    await services.identity.leases.tell(_event("api_key", account))
    services.identity.available.set()
    assert (await wire.answer()).status == 200
    assert len(services.identity.exchanges) == 3


async def _begin(wire: Wire, headers: dict[str, str]) -> None:
    """A request of which one byte of the body has come."""
    head = (
        "POST /v1/projects HTTP/1.1\r\nHost: quarry.test\r\n"
        f"Authorization: {headers['Authorization']}\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n"
    )
    await wire.send(f"{head}{{".encode())


async def test_a_stream_that_is_being_opened_ends_with_its_credential(gateway: Gateway, services: Services) -> None:
    headers, account = services.identity.new_key()
    await _leased(gateway)
    path = f"/v1/projects/{uuid.uuid4()}/events"

    async def silent(_seen: Seen, receive: Receive, _send: Send) -> None:
        await _gone(receive)

    services.notifier.answers[path] = silent
    opening = asyncio.create_task(_get(gateway, path, headers))

    async def asked() -> bool:
        return len(services.notifier.seen) == 1

    await eventually(asked)
    await services.identity.leases.tell(_event("api_key", account))
    assert await opening == 503


async def _get(gateway: Gateway, path: str, headers: dict[str, str]) -> int:
    async with gateway.client.get(path, headers=headers) as answer:
        return answer.status


@pytest.mark.parametrize("how", ["revoked", "expired", "forgotten", "alone"])
async def test_a_stream_ends_with_its_credential(
    gateway: Gateway, services: Services, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers, account = services.identity.new_key()
    if how == "expired":
        account.credential_expires_in = account.expires_in = 1.0
    await _leased(gateway)
    path = f"/v1/projects/{uuid.uuid4()}/events"

    async def stream(_seen: Seen, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
        await _gone(receive)

    services.notifier.answers[path] = stream
    async with gateway.client.get(path, headers=headers, timeout=aiohttp.ClientTimeout(total=15)) as answer:
        assert await answer.content.readline() == b": hello\n"
        if how == "revoked":
            await services.identity.leases.tell(_event("api_key", account))
        elif how == "forgotten":
            await services.identity.leases.tell(b"not an envelope")
        elif how == "alone":
            monkeypatch.setattr(revocations, "ALONE_SECONDS", 0.5)
            services.identity.leases.refusing = True
        assert await answer.content.read() == b"\n"  # complete: the client resumes, and is asked who it is
    services.identity.leases.refusing = False


async def _gone(receive: Receive) -> None:
    """Returns when the client has left: a request that nobody reads any more would count in other tests."""
    while (await receive())["type"] != "http.disconnect":
        pass
