"""PostgreSQL and Redis that somebody else runs, for `QUARRY_TEST_SERVERS=external`.

    QUARRY_TEST_POSTGRES_URL=postgresql://postgres:...@db.test:5432/postgres     a superuser
    QUARRY_TEST_REDIS_URL=redis://operator:...@cache.test:6379                   may do everything, ACL SETUSER too

Each stack gets a PostgreSQL database and a Redis database of its own, taken away at its end. Roles and users are those
of the product and the same for all stacks of the server, so their passwords are derived from the superuser's address:
whoever runs tests against the same server with the same address agrees on them. Nobody else may use those names there.

Limits: tests that stop, kill or freeze a server, or start one with settings of its own, are skipped and say why. Some
change settings of the whole server for a moment, so one process of tests at a time. Redis has `databases` (16) for all;
number 0 holds who has which.
"""

import base64
import hashlib
import hmac
import os
import uuid
from collections.abc import Mapping
from typing import Final, NoReturn
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from infra.local.cluster import ADMIN
from infra.local.environment import redis_passwords
from infra.local.errors import StackError
from infra.local.home import Home
from infra.local.server_protocols import ServerOptions, ServerProcess
from infra.postgres.roles import all_roles
from infra.redis import acl
from shared.topology import SERVICES

POSTGRES_URL: Final = "QUARRY_TEST_POSTGRES_URL"
REDIS_URL: Final = "QUARRY_TEST_REDIS_URL"
_CLAIM: Final = "quarry-tests:database:{}"
_CLAIM_SECONDS: Final = 4 * 60 * 60


class ExternalPostgres:
    """A database of its own on a server that runs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._suffix = uuid.uuid4().hex[:12]
        self._named: set[str] = set()

    @property
    def process(self) -> ServerProcess:
        _refuse("PostgreSQL")

    async def start(self) -> None:
        """Connect once.

        Raises:
            StackError: it does not answer, or the user is no superuser.
        """
        try:
            connection = await asyncpg.connect(self._url, timeout=10)
        except (OSError, asyncpg.PostgresError) as error:
            raise StackError(f"{POSTGRES_URL}: no connection: {error}") from error
        try:
            if not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
                raise StackError(f"{POSTGRES_URL}: the tests need a superuser, to make roles and databases")
        finally:
            await connection.close()

    async def stop(self) -> None:
        _refuse("PostgreSQL")

    async def close(self) -> None:
        connection = await asyncpg.connect(self._url, timeout=10)
        try:
            for name in self._named:
                # Names of our own making, of letters, digits and underscores.
                await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        finally:
            await connection.close()

    def dsn(self, user: str, password: str, database: str, *, driver: str = "") -> str:
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        _, _, place = urlsplit(self._url).netloc.rpartition("@")
        account = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return urlunsplit((scheme, f"{account}@{place}", f"/{self.database_name(database)}", "", ""))

    def admin_dsn(self, database: str = ADMIN) -> str:
        if database == ADMIN:
            return self._url
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{self.database_name(database)}"))

    def database_name(self, database: str) -> str:
        name = f"{database}_{self._suffix}"
        self._named.add(name)
        return name


class ExternalRedis:
    """A database of its own on a server that runs. `passwords` are of the services; None makes no users."""

    def __init__(self, url: str, passwords: Mapping[str, str] | None) -> None:
        self._parts = urlsplit(url)
        self._passwords = passwords
        self._number: int | None = None

    @property
    def process(self) -> ServerProcess:
        _refuse("Redis")

    async def start(self) -> None:
        """Claim a database and make the services' users.

        Raises:
            StackError: all databases are claimed.
        """
        async with Redis.from_url(self._address(0)) as redis:
            count = int(str((await redis.config_get("databases"))["databases"]))
            for number in range(1, count):
                if await redis.set(_CLAIM.format(number), os.getpid(), nx=True, ex=_CLAIM_SECONDS):
                    self._number = number
                    break
            else:
                raise StackError(f"{REDIS_URL}: all {count} databases are in use; give the server more `databases`")
            if self._passwords is not None:
                for line in acl.render(self._passwords).splitlines():
                    _, user, *rules = line.split(" ")
                    if user in SERVICES:
                        # Rights are the same in every database; to choose one is a right as well.
                        await redis.execute_command("ACL SETUSER", user, *rules, "+select")  # type: ignore[no-untyped-call]
        await self.erase()

    async def stop(self) -> None:
        _refuse("Redis")

    async def close(self) -> None:
        if self._number is not None:
            await self.erase()
            async with Redis.from_url(self._address(0)) as redis:
                await redis.delete(_CLAIM.format(self._number))
            self._number = None

    async def erase(self) -> None:
        async with Redis.from_url(self.url()) as redis:
            await redis.flushdb()

    def url(self, database: int = 0, *, user: str = acl.OPERATOR) -> str:
        if database != 0 or self._number is None:
            raise StackError(f"{REDIS_URL}: a stack has one database, from its start to its end")
        return self._address(self._number, user=user)

    def _address(self, number: int, *, user: str = acl.OPERATOR) -> str:
        account, _, place = self._parts.netloc.rpartition("@")
        if user != acl.OPERATOR and self._passwords is not None:
            account = f"{user}:{quote(self._passwords[user], safe='')}"
        netloc = f"{account}@{place}" if account else place
        return urlunsplit((self._parts.scheme, netloc, f"/{number}", self._parts.query, ""))


def external_servers(home: Home, options: ServerOptions) -> tuple[ExternalPostgres, ExternalRedis]:
    """A database on each server, for one stack."""
    if options.postgres or options.redis:
        pytest.skip("QUARRY_TEST_SERVERS=external: this test needs servers with settings of their own")
    postgres_url, redis_url = address_of(POSTGRES_URL), address_of(REDIS_URL)
    for role in all_roles():
        home.secrets.put(f"{role}_database_password", _derived(postgres_url, role))
    for user in SERVICES:
        home.secrets.put(f"{user}_redis_password", _derived(redis_url, user))
    return ExternalPostgres(postgres_url), ExternalRedis(redis_url, redis_passwords(home))


def external_redis() -> ExternalRedis:
    """A database without users of services."""
    return ExternalRedis(address_of(REDIS_URL), None)


def address_of(variable: str) -> str:
    """What the environment says.

    Raises:
        pytest.UsageError: nothing, or no address of this kind of server.
    """
    url = os.environ.get(variable, "")
    schemes = ("postgresql",) if variable == POSTGRES_URL else ("redis", "rediss")
    if urlsplit(url).scheme not in schemes:
        raise pytest.UsageError(f"QUARRY_TEST_SERVERS=external needs {variable}={schemes[0]}://...")
    return url


def _derived(secret: str, name: str) -> str:
    digest = hmac.digest(secret.encode(), name.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode("ascii")


def _refuse(server: str) -> NoReturn:
    pytest.skip(f"QUARRY_TEST_SERVERS=external: {server} is not ours to stop, kill or freeze")
