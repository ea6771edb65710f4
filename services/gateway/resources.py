"""The resources of the running gateway: its connections, and what it remembers and counts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.gateway.admission.gate import Gate
from services.gateway.admission.load_shedding import LoadShedder
from services.gateway.admission.rate_limits import RateLimiter
from services.gateway.admission.revocable_requests import ActiveRequests
from services.gateway.admission.revocations import Revocations
from services.gateway.admission.token_cache import TokenCache
from services.gateway.admission.token_exchange import TokenExchange
from services.gateway.dependencies import Resources
from services.gateway.inbound.connections import Connections
from services.gateway.inbound.proxy_warnings import UntrustedProxies
from services.gateway.metrics import GatewayMetrics, exposed
from services.gateway.openapi.document import ProductDocument
from services.gateway.routes import Flow
from services.gateway.settings import GatewaySettings
from services.gateway.upstreams import upstream
from services.gateway.upstreams.replicas import Lookup, Replica
from services.gateway.upstreams.retries import BufferedResponse, RetryPolicy, send_with_retries
from services.gateway.upstreams.upstream import Upstream
from shared import service_client
from shared.auth import ServiceTokens
from shared.background import run_in_background
from shared.errors import QuarryError
from shared.invalidations.holder import Holder, Ownership
from shared.redis_clients import command_client

# A gateway starts without identity too; then it asks identity about each request.
_FIRST_LEASE_SECONDS = 3.0


@asynccontextmanager
async def resources(settings: GatewaySettings, metrics: GatewayMetrics, lookup: Lookup) -> AsyncIterator[Resources]:
    """Everything a gateway needs, closed in reverse order. Neither Redis nor a service has to be up for the start."""
    url = settings.redis_url.get_secret_value()
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(upstream.connect(settings, lookup))
        commands = command_client(url)
        stack.push_async_callback(commands.aclose)
        lease = _lease(settings, await stack.enter_async_context(service_client.new_session()))
        cache, calls = TokenCache(lambda: lease.current), ActiveRequests()
        exchanges = TokenExchange(services["identity"], settings, cache)
        own = Resources(
            settings=settings,
            upstreams=services,
            cache=cache,
            exchanges=exchanges,
            calls=calls,
            lease=lease,
            gate=Gate(settings, exchanges, RateLimiter(commands)),
            load_shedder=LoadShedder(settings, services),
            untrusted_proxies=UntrustedProxies(settings.trusted_proxies),
            connections=Connections(
                most=settings.client_connections,
                most_waiting=settings.waiting_per_address,
                trusted_proxies=settings.trusted_proxies,
            ),
            document=ProductDocument(settings, services),
            checks={
                "redis": lambda: _check_redis(commands),
                "identity": lambda: _check_identity(services["identity"], settings),
            },
        )
        await stack.enter_async_context(run_in_background(Revocations(lease, cache, calls).run, name="revocations"))
        # The first lease ends what was begun without one: event streams opened a moment before it would be cut off.
        await lease.wait(_FIRST_LEASE_SECONDS)
        await stack.enter_async_context(exposed(settings, metrics, own))
        yield own


def _lease(settings: GatewaySettings, client: aiohttp.ClientSession) -> Holder:
    """The lease under which tokens are remembered."""
    secret = settings.service_secret.get_secret_value()
    tokens = ServiceTokens("gateway", secret, settings.identity_url, client)
    return Holder(Ownership("identity", settings.identity_url, "gateway", durable=False), tokens, client)


# Readiness is public here: it says that something is down, not where it is.


async def _check_redis(redis: Redis) -> None:
    try:
        await redis.ping()
    except (RedisError, OSError) as error:
        raise RuntimeError("does not respond") from error


async def _check_identity(identity: Upstream, settings: GatewaySettings) -> None:
    """Some replica responds; one that does not is no reason to be unready."""

    async def attempt(replica: Replica) -> BufferedResponse:
        url = identity.address(replica, "/healthz", "")
        async with identity.own.get(
            url, timeout=aiohttp.ClientTimeout(total=1), server_hostname=identity.replicas.server_name
        ) as answer:
            return BufferedResponse(answer.status, await answer.read())

    try:
        async with send_with_retries(
            identity, settings, RetryPolicy(Flow.SHORT, repeatable=True, seconds=1.0), attempt
        ) as whole:
            healthy = whole.status == 200
    except QuarryError as error:
        raise RuntimeError("does not respond") from error
    if not healthy:
        raise RuntimeError("does not respond")
