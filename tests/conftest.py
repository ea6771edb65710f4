"""Real servers for every test: one PostgreSQL and one Redis per test process, schemas migrated once."""

import gc
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from infra.local.home import Home
from infra.local.stack import Stack
from shared.redis_clients import command_client
from tests.support.identity import IdentityDouble
from tests.support.servers import check_choice, servers
from tests.support.stacks import EnvironmentOf, Migrate, environments_of, migrations_of
from tests.support.system import System, running_system


def pytest_configure(config: pytest.Config) -> None:
    """The embedding model is built once for all stacks and kept for the next run."""
    check_choice()
    assert config.cache is not None
    os.environ.setdefault("QUARRY_INDEXING_MODEL_DIR", str(config.cache.mkdir("models")))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported for the tests stays: a fifth of the time was spent looking for garbage in it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def folders() -> Iterator[Callable[[str], Path]]:
    """Makes folders for stacks. Not pytest's own, which other runs close to the account PostgreSQL runs as."""
    root = Path(tempfile.mkdtemp(prefix="quarry-", dir="/tmp"))  # a short path: sockets live below
    yield lambda name: Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))
    shutil.rmtree(root)


@pytest.fixture(scope="session")
async def stack(folders: Callable[[str], Path]) -> AsyncIterator[Stack]:
    """PostgreSQL and Redis; no service is started."""
    async with Stack(Home(folders("stack")), durable=False, with_oidc=False, servers=servers()) as running:
        yield running


@pytest.fixture(scope="session")
async def tokens() -> AsyncIterator[IdentityDouble]:
    """What services ask identity for, answered over HTTP: keys and service tokens. Makes bearer tokens for tests."""
    async with IdentityDouble.serving() as double:
        yield double


@pytest.fixture(scope="session")
def migrated(stack: Stack) -> Migrate:
    """Apply a service's migrations, once."""
    return migrations_of(stack)


@pytest.fixture(scope="session")
def service_environment(stack: Stack, tokens: IdentityDouble, migrated: Migrate) -> EnvironmentOf:
    """The environment of a service whose identity is the double; its schema is there when the call returns."""
    return environments_of(stack, tokens, migrated)


@pytest.fixture
async def redis_client(stack: Stack) -> AsyncIterator[Redis]:
    client = command_client(stack.redis.url())
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
async def system(folders: Callable[[str], Path]) -> AsyncIterator[System]:
    """The whole system as processes, for tests of flows and faults. Whoever kills a part starts it again."""
    async with running_system(folders("system")) as running:
        yield running


@pytest.fixture
def tenant_id() -> uuid.UUID:
    """A tenant nobody else uses."""
    return uuid.uuid4()
