"""What identity revokes stops counting at once, and soon even when Redis cannot tell."""

import uuid

import pytest
from redis.asyncio import Redis

from infra.local import kinds
from shared.events.envelope import Envelope, Event
from shared.events.identity import ApiKeyRevoked, MembershipChanged, SessionRevoked, TenantCreated, TenantDeleted
from tests.services.gateway.conftest import Gateway, StartGateway
from tests.services.gateway.doubles import Account, Services
from tests.support.polling import eventually


async def _status(gateway: Gateway, headers: dict[str, str]) -> int:
    async with gateway.client.get("/v1/projects", headers=headers) as answer:
        return answer.status


async def _publish(redis: Redis, event: Event, tenant_id: uuid.UUID) -> None:
    envelope = Envelope.wrap(
        event,
        event_id=uuid.uuid4(),
        tenant_id=tenant_id,
        sequence=1,
        traceparent=None,
        correlation_id=None,
        causation_id=None,
    )
    await redis.xadd("events.identity", {"event": envelope.to_json()})


async def _following(gateway: Gateway) -> None:
    """Wait until the gateway has heard the stream once, so that nothing is cleared because of the start."""

    async def heard() -> bool:
        return gateway.runtime.cache._heard_at > 0

    await eventually(heard)


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
async def test_a_revoked_credential_stops_counting(
    gateway: Gateway, services: Services, redis: Redis, kind: str
) -> None:
    headers, account = services.identity.new_session() if kind == "session" else services.identity.new_key()
    await _following(gateway)
    assert await _status(gateway, headers) == 200
    bystander, _ = services.identity.new_key()
    assert await _status(gateway, bystander) == 200
    services.identity.accounts = {key: known for key, known in services.identity.accounts.items() if known != account}
    assert await _status(gateway, headers) == 200  # remembered, until the event arrives
    await _publish(redis, _event(kind, account), account.tenant_id or uuid.uuid4())

    async def refused() -> bool:
        return await _status(gateway, headers) == 401

    await eventually(refused, within=2)
    exchanges = len(services.identity.exchanges)
    assert await _status(gateway, bystander) == 200
    assert len(services.identity.exchanges) == exchanges


async def test_other_events_leave_the_cache_alone_and_unreadable_ones_clear_it(
    gateway: Gateway, services: Services, redis: Redis
) -> None:
    headers, account = services.identity.new_key()
    await _following(gateway)
    assert await _status(gateway, headers) == 200
    cache = gateway.runtime.cache
    generation = cache.generation
    created = TenantCreated(tenant_id=uuid.uuid4(), name="t", owner_id=account.user_id)
    await _publish(redis, created, created.tenant_id)
    await redis.xadd("events.identity", {"event": b"{not json"})

    async def cleared() -> bool:
        return len(cache) == 0

    await eventually(cleared, within=5)
    assert cache.generation == generation + 1


async def test_what_was_cached_before_the_stream_was_followed_is_forgotten(
    gateway: Gateway, services: Services
) -> None:
    headers, _ = services.identity.new_key()
    assert await _status(gateway, headers) == 200
    await _following(gateway)
    assert len(gateway.runtime.cache) == 0


async def test_with_redis_frozen_a_revocation_counts_within_seconds(
    start_gateway: StartGateway, services: Services, gateway_redis: kinds.Redis
) -> None:
    gateway = await start_gateway()
    headers, _ = services.identity.new_key()
    await _following(gateway)
    assert await _status(gateway, headers) == 200
    gateway_redis.process.freeze()
    try:
        services.identity.accounts.clear()

        async def refused() -> bool:
            return await _status(gateway, headers) == 401

        await eventually(refused, within=7.5)
    finally:
        gateway_redis.process.thaw()


async def test_with_redis_gone_the_gateway_goes_on_and_follows_again_later(
    start_gateway: StartGateway, services: Services, gateway_redis: kinds.Redis, redis: Redis
) -> None:
    gateway = await start_gateway()
    headers, account = services.identity.new_key()
    await _following(gateway)
    assert await _status(gateway, headers) == 200
    await gateway_redis.stop()
    try:
        assert await _status(gateway, headers) == 200
        services.identity.accounts.clear()

        async def refused() -> bool:
            return await _status(gateway, headers) == 401

        await eventually(refused, within=6)
    finally:
        await gateway_redis.start()
    services.identity.accounts["api_key", headers["Authorization"].removeprefix("Bearer ")] = account
    heard = gateway.runtime.cache._heard_at

    async def followed_again() -> bool:
        return gateway.runtime.cache._heard_at > heard

    await eventually(followed_again, within=10)

    async def counts() -> bool:
        return await _status(gateway, headers) == 200

    await eventually(counts, within=5)
    services.identity.accounts.clear()
    await _publish(redis, _event("api_key", account), uuid.uuid4())
    await eventually(refused, within=2)
