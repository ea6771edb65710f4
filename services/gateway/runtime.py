"""The connections of a running gateway, made in its lifespan and reachable as `app.state.runtime`."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.gateway import upstreams
from services.gateway.admission import Gate
from services.gateway.attempts import Terms, Whole, answered
from services.gateway.exchanges import Exchanges
from services.gateway.limits import RateLimiter
from services.gateway.openapi import ProductDocument
from services.gateway.places import Places
from services.gateway.replicas import Lookup, Replica
from services.gateway.revocations import follow_revocations
from services.gateway.routes import Flow, UpstreamName
from services.gateway.settings import GatewaySettings
from services.gateway.token_cache import TokenCache
from services.gateway.upstreams import Upstream
from shared.background import run_in_background
from shared.errors import QuarryError
from shared.health import Check
from shared.redis_clients import command_client, reader_client


@dataclass(slots=True)
class Runtime:
    """What a request needs. `checks` are looked at by `/readyz`."""

    settings: GatewaySettings
    upstreams: dict[UpstreamName, Upstream]
    cache: TokenCache
    gate: Gate
    places: Places
    document: ProductDocument
    checks: dict[str, Check]


@asynccontextmanager
async def run(settings: GatewaySettings, lookup: Lookup) -> AsyncIterator[Runtime]:
    """Everything a gateway needs, closed in reverse order. Neither Redis nor a service has to be there to start."""
    url = settings.redis_url.get_secret_value()
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(upstreams.connect(settings, lookup))
        commands, reader = command_client(url), reader_client(url)
        stack.push_async_callback(commands.aclose)
        stack.push_async_callback(reader.aclose)
        cache = TokenCache()
        exchanges = Exchanges(services["identity"], settings, cache)
        runtime = Runtime(
            settings=settings,
            upstreams=services,
            cache=cache,
            gate=Gate(settings, exchanges, RateLimiter(commands)),
            places=Places(settings),
            document=ProductDocument(settings, services),
            checks={
                "redis": lambda: _check_redis(commands),
                "identity": lambda: _check_identity(services["identity"], settings),
            },
        )
        await stack.enter_async_context(
            run_in_background(partial(follow_revocations, reader, cache), name="revocations")
        )
        yield runtime


# Readiness is public here: it says that something is away, not where it is.


async def _check_redis(redis: Redis) -> None:
    try:
        await redis.ping()
    except (RedisError, OSError) as error:
        raise RuntimeError("does not answer") from error


async def _check_identity(identity: Upstream, settings: GatewaySettings) -> None:
    """Some replica answers; one that does not is another's affair."""

    async def attempt(replica: Replica) -> Whole:
        url = identity.address(replica, "/healthz", "")
        async with identity.short.get(
            url, timeout=aiohttp.ClientTimeout(total=1), server_hostname=identity.replicas.server_name
        ) as answer:
            return Whole(answer.status, await answer.read())

    try:
        async with answered(identity, settings, Terms(Flow.SHORT, repeatable=True, seconds=1.0), attempt) as whole:
            healthy = whole.status == 200
    except QuarryError as error:
        raise RuntimeError("does not answer") from error
    if not healthy:
        raise RuntimeError("does not answer")
