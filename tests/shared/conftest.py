"""The foundation is tested on the notifier's schema, which has every table that all services share.

On a stack of its own: an application that another test keeps running would lead the relay and answer to FLUSHDB.
"""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import ClassVar

import pytest
from redis.asyncio import Redis
from sqlalchemy import delete

from infra.local.home import Home
from infra.local.stack import Stack
from shared import db
from shared.background import run_in_background
from shared.outbox import OutboxEvent
from shared.relay import Relay
from shared.settings import DatabaseSettings
from shared.tenancy import Database
from tests.shared.backbone import Recorder, value_of
from tests.support.identity import IdentityDouble
from tests.support.polling import eventually
from tests.support.servers import servers
from tests.support.serving import make_settings
from tests.support.stacks import EnvironmentOf, Migrate, environments_of, migrations_of


class SampleSettings(DatabaseSettings):
    service: ClassVar[str] = "notifier"


@pytest.fixture(scope="session")
async def stack(folders: Callable[[str], Path]) -> AsyncIterator[Stack]:
    async with Stack(Home(folders("shared")), durable=False, with_oidc=False, servers=servers()) as running:
        yield running


@pytest.fixture(scope="session")
def migrated(stack: Stack) -> Migrate:
    return migrations_of(stack)


@pytest.fixture(scope="session")
def service_environment(stack: Stack, tokens: IdentityDouble, migrated: Migrate) -> EnvironmentOf:
    return environments_of(stack, tokens, migrated)


@pytest.fixture
async def settings(service_environment: EnvironmentOf) -> SampleSettings:
    return make_settings(SampleSettings, await service_environment("notifier"))


@pytest.fixture
async def database(settings: SampleSettings) -> AsyncIterator[Database]:
    engines = await db.connect(settings)
    yield Database(engines)
    await engines.dispose()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def fresh_stream(redis_client: Redis, database: Database) -> None:
    """Neither Redis nor the outbox remembers another test."""
    await redis_client.flushdb()
    async with database.system() as session:
        await session.execute(delete(OutboxEvent))


@pytest.fixture
async def relay(database: Database, redis_client: Redis, fresh_stream: None) -> AsyncIterator[Relay]:
    relay = Relay("notifier", database, redis_client)
    database.on_outbox_commit(relay.wake)
    async with run_in_background(relay.run, name="relay"):
        await eventually(lambda: value_of(relay.leading))
        yield relay
