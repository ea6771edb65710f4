"""Which PostgreSQL and Redis the tests run on: `QUARRY_TEST_SERVERS=embedded|containers|external`.

`embedded` (the default): processes from wheels, as `uv run dev` runs them. `containers`: by testcontainers, from the
images of docker-compose.yml. `external`: servers that run already, see `tests.support.external_servers`.

Real servers in every case, and the same tests on them; what only one kind has to offer is tested on that kind whatever
is chosen here: `tests/infra` makes embedded servers itself.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from infra.local.server_protocols import MakeServers, Redis
from infra.local.servers import RedisServer
from infra.local.stack import embedded_servers
from tests.support.container_servers import ContainerRedis, container_servers
from tests.support.external_servers import POSTGRES_URL, REDIS_URL, address_of, external_redis, external_servers

VARIABLE: Final = "QUARRY_TEST_SERVERS"
KINDS: Final = ("embedded", "containers", "external")


def chosen() -> str:
    """One of `KINDS`.

    Raises:
        pytest.UsageError: the environment says something else.
    """
    kind = os.environ.get(VARIABLE) or "embedded"
    if kind not in KINDS:
        raise pytest.UsageError(f"{VARIABLE}={kind}: it is one of {', '.join(KINDS)}")
    return kind


def check_choice() -> None:
    """Refuse at once what cannot work.

    Raises:
        pytest.UsageError: says what, and what would.
    """
    if chosen() == "external":
        for variable in (POSTGRES_URL, REDIS_URL):
            address_of(variable)
        if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
            raise pytest.UsageError(
                f"{VARIABLE}=external: some tests change settings of the whole server; run one process of tests (-n 0)"
            )


def servers() -> MakeServers:
    """Makes the servers of each stack of the tests."""
    kind = chosen()
    if kind == "external":
        return external_servers
    if kind == "containers":
        return container_servers
    return embedded_servers


@asynccontextmanager
async def lone_redis(folder: Path) -> AsyncIterator[Redis]:
    """A Redis without a stack, to which everybody may do everything."""
    redis = _lone_redis(folder)
    try:
        await redis.start()
        yield redis
    finally:
        await redis.close()


def _lone_redis(folder: Path) -> Redis:
    kind = chosen()
    if kind == "external":
        return external_redis()
    if kind == "containers":
        return ContainerRedis()
    return RedisServer(folder, folder, environment=dict(os.environ))
