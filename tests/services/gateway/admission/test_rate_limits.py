"""Rate limits: exact over all gateways in Redis, cheap where there is much traffic, and there without Redis."""

import asyncio
from ipaddress import ip_network

import pytest
from redis.asyncio import Redis

from infra.local import server_protocols
from services.gateway.admission.rate_limits import Limit, RateLimiter, Verdict, headers_for
from services.gateway.inbound.request_validation import limit_key, read
from shared.errors import Unavailable
from shared.redis_clients import command_client
from tests.services.gateway.conftest import Gateway, StartGateway
from tests.services.gateway.doubles import Services
from tests.support.polling import eventually


async def _allowed(limiter: RateLimiter, limit: Limit, count: int, subject: str = "s") -> int:
    verdicts = await asyncio.gather(*(limiter.take(limit, subject) for _ in range(count)))
    return sum(verdict.allowed for verdict in verdicts)


async def test_a_burst_gets_the_quota_and_no_more(redis: Redis) -> None:
    limit = Limit("t", 10)
    limiter = RateLimiter(redis)
    assert await _allowed(limiter, limit, 30) == 10
    verdict = await limiter.take(limit, "s")
    assert not verdict.allowed
    assert 0 < verdict.retry_after <= 6
    assert 50 < verdict.reset <= 60
    assert (await limiter.take(limit, "another")).allowed


async def test_several_gateways_share_one_quota(redis: Redis) -> None:
    limit = Limit("t", 1000)
    limiters = [RateLimiter(redis) for _ in range(3)]
    allowed = 0
    for _ in range(200):
        allowed += sum([(await limiter.take(limit, "s")).allowed for limiter in limiters for _ in range(3)])
    # Never more than the quota and what has come back meanwhile (a sixteenth of it a second at most).
    assert 800 < allowed <= 1000 + 17 * 10


async def test_permits_come_back_evenly(redis: Redis) -> None:
    limit = Limit("t", 10, window=1)
    limiter = RateLimiter(redis)
    assert await _allowed(limiter, limit, 15) >= 10
    waited = 0

    async def one_more() -> bool:
        nonlocal waited
        waited += 1
        return (await limiter.take(limit, "s")).allowed

    await eventually(one_more, within=1, every=0.01)
    assert waited > 1


async def test_the_state_of_a_key_leaves_redis_when_it_is_full_again(redis: Redis) -> None:
    await RateLimiter(redis).take(Limit("t", 100), "s")
    (key,) = await redis.keys("gateway:limit:*")
    assert 0 < await redis.pttl(key) <= 1000


async def test_much_traffic_costs_few_round_trips(redis: Redis) -> None:
    limit = Limit("t", 100_000)
    limiter = RateLimiter(redis)
    await redis.config_resetstat()
    for _ in range(2000):
        assert (await limiter.take(limit, "s")).allowed
    stats = await redis.info("commandstats")
    calls = sum(stats[name]["calls"] for name in stats if name in ("cmdstat_evalsha", "cmdstat_eval"))
    assert calls < 200


async def test_without_redis_the_limit_is_kept_by_this_process_alone() -> None:
    limiter = RateLimiter(command_client("unix:///nowhere.sock"))
    limit = Limit("t", 10)
    assert await _allowed(limiter, limit, 30) == 10
    verdict = await limiter.take(limit, "s")
    assert not verdict.allowed
    assert 0 < verdict.retry_after <= 6
    with pytest.raises(Unavailable):
        await limiter.take(Limit("t", 10, fails_closed=True), "s")


async def test_a_frozen_redis_delays_few_requests(
    start_gateway: StartGateway, services: Services, gateway_redis: server_protocols.Redis
) -> None:
    gateway = await start_gateway()
    headers, _ = services.identity.new_key()
    assert await _status(gateway, headers) == 200
    gateway_redis.process.freeze()
    try:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for _ in range(20):
            assert await _status(gateway, headers) == 200
        assert loop.time() - started < 5
    finally:
        gateway_redis.process.thaw()


def test_the_headers_name_every_limit() -> None:
    verdicts = [Verdict(Limit("user", 5), True, 4, 12.2), Verdict(Limit("tenant", 9, window=10), True, 8, 1)]
    assert headers_for(verdicts) == [
        (b"ratelimit-policy", b'"user";q=5;w=60, "tenant";q=9;w=10'),
        (b"ratelimit", b'"user";r=4;t=13, "tenant";r=8;t=1'),
    ]


async def test_a_tenant_over_its_limit_is_429_whatever_key_it_uses(
    start_gateway: StartGateway, services: Services
) -> None:
    gateway = await start_gateway(tenant_per_minute=5)
    first, account = services.identity.new_key()
    second, _ = services.identity.new_key(tenant_id=account.tenant_id)
    statuses = [await _status(gateway, headers) for headers in (first, second) * 4]
    assert statuses == [200] * 5 + [429] * 3
    async with gateway.client.get("/v1/projects", headers=second) as answer:
        assert (await answer.json())["code"] == "rate_limited"
        assert 1 <= int(answer.headers["Retry-After"]) <= 12
        assert '"tenant";q=5;w=60' in answer.headers["RateLimit-Policy"]
        assert '"tenant";r=0;t=' in answer.headers["RateLimit"]
    bystander, _ = services.identity.new_key()
    async with gateway.client.get("/v1/projects", headers=bystander) as answer:
        assert answer.status == 200
        assert '"tenant";r=4;t=' in answer.headers["RateLimit"]


async def test_a_user_over_its_limit_is_429_in_every_tenant(start_gateway: StartGateway, services: Services) -> None:
    gateway = await start_gateway(user_per_minute=3)
    first, account = services.identity.new_key()
    second, _ = services.identity.new_key(user_id=account.user_id)
    assert [await _status(gateway, headers) for headers in (first, second) * 2] == [200, 200, 200, 429]


async def test_a_user_without_a_tenant_is_limited_too(start_gateway: StartGateway, services: Services) -> None:
    gateway = await start_gateway(user_per_minute=1)
    headers, _ = services.identity.new_key(tenant_id=None)
    assert [await _status(gateway, headers) for _ in range(2)] == [200, 429]


async def test_guessing_credentials_is_stopped_before_identity_is_asked(
    start_gateway: StartGateway, services: Services
) -> None:
    gateway = await start_gateway(anonymous_per_minute=4)
    statuses = [await _status(gateway, {"Authorization": f"Bearer qk_guess{number}"}) for number in range(8)]
    assert statuses == [401] * 4 + [429] * 4
    assert len(services.identity.exchanges) == 5
    forged = {"Authorization": "Bearer qk_other", "X-Forwarded-For": "9.9.9.9"}
    assert await _status(gateway, forged) == 429


async def test_unknown_paths_and_missing_credentials_count_as_well(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(anonymous_per_minute=3)
    assert [
        await _status(gateway, {}, path) for path in ("/x", "/v1/projects", "/auth/providers", "/x", "/auth/x")
    ] == [
        404,
        401,
        200,
        429,
        429,
    ]
    assert await _status(gateway, {}, "/healthz") == 200


async def test_sign_in_fails_closed_without_redis_and_the_rest_goes_on(
    start_gateway: StartGateway, services: Services
) -> None:
    gateway = await start_gateway(redis_url="unix:///nowhere.sock")
    headers, _ = services.identity.new_key()
    assert await _status(gateway, {}, "/auth/login/dev") == 503
    assert await _status(gateway, {}, "/auth/callback/dev?code=1") == 503
    assert not services.identity.seen
    assert await _status(gateway, {}, "/auth/providers") == 200
    assert await _status(gateway, headers) == 200


async def test_sign_in_has_a_limit_of_its_own(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(sign_in_per_minute=2)
    assert [await _status(gateway, {}, "/auth/login/dev") for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", "1.1.1.1", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "1.1.1.1, 10.0.0.2", "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3", "10.0.0.3"),
    ],
)
def test_only_a_trusted_proxy_says_who_the_client_is(peer: str, forwarded: str, expected: str) -> None:
    scope = {
        "method": "GET",
        "raw_path": b"/v1/me",
        "query_string": b"",
        "client": (peer, 1),
        "headers": [(b"x-forwarded-for", forwarded.encode())],
    }
    assert read(scope, (ip_network("10.0.0.0/8"),)).address == expected
    assert read(scope, ()).address == peer


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("10.0.0.1", "6.6.6.6, 2001:db8::7, 172.18.0.1", "2001:db8::7"),  # two hops, and a claim of the client's
        ("fd00:18::1", "198.51.100.7", "198.51.100.7"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),  # as a socket for both kinds shows it
        ("10.0.0.1", "198.51.100.7:51234", "198.51.100.7"),
        ("10.0.0.1", "[2001:db8::7]:51234", "2001:db8::7"),
        ("10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("198.51.100.9", "10.0.0.1", "198.51.100.9"),
        ("10.0.0.1", "\xa0198.51.100.7", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7%eth0", "10.0.0.1"),
        ("10.0.0.1", "fe80::1%eth0", "10.0.0.1"),
        ("10.0.0.1", "0x7f000001", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "\xb2.1.1.1", "10.0.0.1"),
    ],
)
def test_hops_are_counted_from_the_nearest(peer: str, forwarded: str, expected: str) -> None:
    trusted = tuple(ip_network(network) for network in ("10.0.0.0/24", "172.18.0.1", "fd00:18::/64"))
    scope = {
        "method": "GET",
        "raw_path": b"/v1/me",
        "query_string": b"",
        "client": (peer, 1),
        "headers": [(b"x-forwarded-for", forwarded.encode("latin-1"))],
    }
    assert read(scope, trusted).address == expected


async def test_two_clients_of_a_trusted_proxy_are_two(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(anonymous_per_minute=1, trusted_proxies="127.0.0.0/8, ::1")
    for client in ("198.51.100.1", "198.51.100.2", "2001:db8:1::1", "2001:db8:2::1"):
        forwarded = {"X-Forwarded-For": f"203.0.113.50, {client}"}
        assert [await _status(gateway, forwarded, "/x") for _ in range(2)] == [404, 429]
    assert await _status(gateway, {"X-Forwarded-For": "2001:db8:1::ffff"}, "/x") == 429


async def test_a_peer_whose_word_does_not_count_is_told_of_once(
    gateway: Gateway, start_gateway: StartGateway, caplog: pytest.LogCaptureFixture
) -> None:
    def warnings() -> list[object]:
        logged = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
        return [entry["peer"] for entry in logged if entry["event"] == "forwarded_for_not_believed"]

    for number in range(3):
        await _status(gateway, {"X-Forwarded-For": f"198.51.100.{number}"}, "/x")
    assert warnings() == ["127.0.0.1"]
    trusting = await start_gateway(trusted_proxies="127.0.0.1")
    await _status(trusting, {"X-Forwarded-For": "198.51.100.1"}, "/x")
    assert warnings() == ["127.0.0.1"]


def test_one_ipv6_subscriber_is_one_client() -> None:
    assert limit_key("2001:db8:1:2:3::4") == limit_key("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert limit_key("::ffff:192.0.2.1") == limit_key("192.0.2.1") == "192.0.2.1"
    assert limit_key("") == "unknown"


async def _status(gateway: Gateway, headers: dict[str, str], path: str = "/v1/projects") -> int:
    async with gateway.client.get(path, headers=headers) as answer:
        return answer.status
