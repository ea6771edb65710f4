"""Which servers the tests run on: the choice itself, and servers that somebody else runs.

The external ones are embedded servers of these tests' own, behind proxies that give them ports.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from redis import exceptions
from redis.asyncio import Redis

from infra.local.errors import StackError
from infra.local.home import Home
from infra.local.stack import Stack, embedded_servers
from infra.postgres.roles import DATABASE
from shared.redis_clients import command_client
from tests.faults.proxy import FaultProxy
from tests.faults.systems import POSTGRES, REDIS, moved, upstream_of
from tests.support import servers
from tests.support.composed import COMPOSE_FILE, composed
from tests.support.container_servers import container_servers
from tests.support.external_servers import POSTGRES_URL, REDIS_URL, ExternalPostgres, external_redis, external_servers


@dataclass(frozen=True, slots=True)
class Given:
    """Addresses of an operator's servers."""

    postgres: str
    redis: str

    def stack(self, folder: Path) -> Stack:
        return Stack(Home(folder), with_oidc=False, servers=external_servers)


@pytest.fixture(scope="module")
async def addresses(folders: Callable[[str], Path]) -> AsyncIterator[Given]:
    settings = {"databases": "4"}
    async with (
        Stack(Home(folders("external")), durable=False, with_oidc=False, redis_settings=settings) as stack,
        FaultProxy(upstream_of(stack, POSTGRES)) as postgres,
        FaultProxy(upstream_of(stack, REDIS)) as redis,
    ):
        yield Given(moved(stack.postgres.admin_dsn(), postgres.port), moved(stack.redis.url(), redis.port))


@pytest.fixture
def given(addresses: Given, monkeypatch: pytest.MonkeyPatch) -> Given:
    monkeypatch.setenv(POSTGRES_URL, addresses.postgres)
    monkeypatch.setenv(REDIS_URL, addresses.redis)
    return addresses


# --- the choice -----------------------------------------------------------------------------------------------------


def test_servers_are_embedded_unless_asked_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(servers.VARIABLE, raising=False)
    assert servers.servers() is embedded_servers
    monkeypatch.setenv(servers.VARIABLE, "containers")
    assert servers.servers() is container_servers
    monkeypatch.setenv(servers.VARIABLE, "external")
    assert servers.servers() is external_servers


def test_an_unknown_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(servers.VARIABLE, "docker")
    with pytest.raises(pytest.UsageError, match="QUARRY_TEST_SERVERS=docker: it is one of embedded, containers, exter"):
        servers.check_choice()


@pytest.mark.parametrize(("variable", "url"), [(POSTGRES_URL, "postgres.test:5432"), (REDIS_URL, "unix:///redis.sock")])
def test_external_servers_need_their_addresses(
    given: Given, monkeypatch: pytest.MonkeyPatch, variable: str, url: str
) -> None:
    monkeypatch.setenv(servers.VARIABLE, "external")
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    servers.check_choice()
    monkeypatch.setenv(variable, url)
    with pytest.raises(pytest.UsageError, match=f"external needs {variable}=(postgresql|redis)://"):
        servers.check_choice()


def test_external_servers_are_for_one_process_of_tests(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(servers.VARIABLE, "external")
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    with pytest.raises(pytest.UsageError, match="run one process of tests"):
        servers.check_choice()


# --- what containers are made of ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("service", "oldest"), [("postgres", (18,)), ("redis", (8, 2))])
def test_containers_have_the_versions_of_the_compose_file(service: str, oldest: tuple[int, ...]) -> None:
    image = composed(service).image
    assert f"\n    image: {image}\n" in COMPOSE_FILE.read_text()
    name, _, tag = image.partition(":")
    assert name == service
    assert tuple(int(part) for part in tag.split("-")[0].split(".")) >= oldest


def test_variables_of_the_compose_file_count_as_their_defaults(tmp_path: Path) -> None:
    file = tmp_path / "docker-compose.yml"
    file.write_text(
        'services:\n  db:\n    image: "db:${VERSION:-18}"\n    command: ["-c", "n=${N:-2}"]\n  own: {build: .}\n'
    )
    found = composed("db", file)
    assert (found.image, found.command, found.entrypoint, found.user) == ("db:18", ("-c", "n=2"), (), "")
    with pytest.raises(LookupError, match=r"docker-compose\.yml names no image for own"):
        composed("own", file)


# --- servers that somebody else runs --------------------------------------------------------------------------------


async def test_stacks_on_the_same_servers_share_no_data(given: Given, folders: Callable[[str], Path]) -> None:
    async with given.stack(folders("one")) as one, given.stack(folders("other")) as other:
        names = [stack.postgres.database_name(DATABASE) for stack in (one, other)]
        assert names[0] != names[1]
        for stack, name in zip((one, other), names, strict=True):
            connection = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
            assert await connection.fetchval("SELECT current_database()") == name
            await connection.close()
            # Roles and users are the servers' own: the second stack has not changed what the first one goes by.
            runtime = await asyncpg.connect(stack.database_url("projects").replace("+asyncpg", ""))
            assert await runtime.fetchval("SELECT current_user") == "projects"
            await runtime.close()
        async with Redis.from_url(one.redis.url()) as redis, Redis.from_url(other.redis.url()) as neighbour:
            await redis.xadd("events.projects", {"event": b"{}"})
            assert await neighbour.keys() == []
            await neighbour.flushdb()
            assert await redis.xlen("events.projects") == 1
    admin = await asyncpg.connect(given.postgres)
    assert await admin.fetch("SELECT datname FROM pg_database WHERE datname = ANY($1)", names) == []
    await admin.close()
    async with Redis.from_url(given.redis) as redis:
        assert await redis.keys() == []


async def test_a_service_has_its_rights_and_no_more(given: Given, folders: Callable[[str], Path]) -> None:
    async with given.stack(folders("rights")) as stack:
        client = command_client(stack.redis.url(user="projects"))
        assert await client.xadd("events.projects", {"event": b"{}"})
        with pytest.raises(exceptions.NoPermissionError):
            await client.xadd("events.identity", {"event": b"{}"})
        await client.aclose()


async def test_a_server_without_a_free_database_says_so(given: Given, folders: Callable[[str], Path]) -> None:
    held = [external_redis() for _ in range(3)]
    try:
        for redis in held:
            await redis.start()
        with pytest.raises(StackError, match="all 4 databases are in use"):
            await external_redis().start()
    finally:
        for redis in held:
            await redis.close()


async def test_a_server_that_is_not_there_or_knows_us_not_is_named(given: Given) -> None:
    with pytest.raises(StackError, match=f"{POSTGRES_URL}: no connection"):
        await ExternalPostgres("postgresql://postgres@127.0.0.1:1/postgres").start()
    with pytest.raises(StackError, match=f"{POSTGRES_URL}: no connection"):
        await ExternalPostgres(given.postgres.replace("postgres:", "postgres:not", 1)).start()
    admin = await asyncpg.connect(given.postgres)
    await admin.execute("CREATE ROLE somebody LOGIN PASSWORD 'known'")
    await admin.close()
    _, _, place = given.postgres.rpartition("@")
    with pytest.raises(StackError, match=f"{POSTGRES_URL}: the tests need a superuser"):
        await ExternalPostgres(f"postgresql://somebody:known@{place}").start()


async def test_what_only_an_owner_of_servers_can_do_is_left_out(given: Given, folders: Callable[[str], Path]) -> None:
    async with given.stack(folders("faults")) as stack:
        for server in (stack.redis, stack.postgres):
            with pytest.raises(pytest.skip.Exception, match="is not ours to stop, kill or freeze"):
                server.process.kill()
        for server in (stack.redis, stack.postgres):
            with pytest.raises(pytest.skip.Exception, match="is not ours"):
                await server.stop()
    with pytest.raises(pytest.skip.Exception, match="needs servers with settings of their own"):
        async with Stack(Home(folders("settings")), redis_settings={"maxmemory": "1mb"}, servers=external_servers):
            pass
