"""Replicas of the notifier over real HTTP, its neighbours' answers, and ways to feed it."""

import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext

import aiohttp
import pytest
from redis.asyncio import Redis

from services.notifier.main import create_app
from services.notifier.settings import NotifierSettings
from services.notifier.streams.service import Streaming
from shared import db
from shared.events.envelope import Envelope, Event, producer_of
from shared.redis_clients import stream_of
from shared.tenancy import Database
from tests.services.notifier.running import Neighbours, Publish, Replica, Replicas
from tests.support.identity import IdentityDouble
from tests.support.serving import all_in_step, kept_in_step, make_app, make_settings, serve, started

Environments = Callable[[str], Awaitable[dict[str, str]]]


@pytest.fixture(scope="session")
async def neighbours() -> AsyncIterator[Neighbours]:
    double = Neighbours()
    async with serve(double.app()) as url:
        double.url = url
        yield double


@pytest.fixture(scope="session")
async def environment(service_environment: Environments, neighbours: Neighbours) -> dict[str, str]:
    return {
        **await service_environment("notifier"),
        "QUARRY_NOTIFIER_PROJECTS_URL": neighbours.url,
        "QUARRY_NOTIFIER_INDEXING_URL": neighbours.url,
        "QUARRY_NOTIFIER_LOG_LEVEL": "WARNING",
    }


@pytest.fixture(scope="session")
def replicas(environment: dict[str, str], tokens: IdentityDouble) -> Replicas:
    """Start a replica that serves HTTP; settings by name, as in `poll_seconds=0.1`.

    It takes no events unless asked to: the group of the streams is shared by all that do.
    """

    @asynccontextmanager
    async def start(*, roles: str = "http", **settings: object) -> AsyncIterator[Replica]:
        own = {f"QUARRY_NOTIFIER_{name.upper()}": str(value) for name, value in settings.items()}
        app = make_app(create_app, {**environment, "QUARRY_NOTIFIER_ROLES": roles, **own})
        async with started(app) as running, serve(running) as url, aiohttp.ClientSession() as client:
            with kept_in_step(running) if "projects_url" not in settings else nullcontext():
                await all_in_step()
                yield Replica(url, running.resources(Streaming), client, tokens)

    return start


@pytest.fixture(scope="package")
async def replica(replicas: Replicas) -> AsyncIterator[Replica]:
    """A replica that does everything, with a poll so slow that it helps no test."""
    async with replicas(roles="http,events", poll_seconds=600) as running:
        yield running


@pytest.fixture(scope="session")
async def database(environment: dict[str, str]) -> AsyncIterator[Database]:
    """The notifier's own database, as its runtime role."""
    engines = await db.connect(make_settings(NotifierSettings, environment))
    yield Database(engines)
    await engines.dispose()


@pytest.fixture
def publish(redis_client: Redis) -> Publish:
    """Put an event on its producer's stream, as the relay of that producer would."""
    revisions = itertools.count(10)

    async def put(
        tenant_id: uuid.UUID, event: Event, *, revision: int | None = None, traceparent: str | None = None
    ) -> Envelope:
        envelope = Envelope.wrap(
            event,
            event_id=uuid.uuid4(),
            tenant_id=tenant_id,
            sequence=next(revisions) if revision is None else revision,
            traceparent=traceparent,
            correlation_id=None,
            causation_id=None,
        )
        await redis_client.xadd(stream_of(producer_of(event.type)), {"event": envelope.to_json()})
        return envelope

    return put
