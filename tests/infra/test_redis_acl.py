"""What each service may do in Redis: asked of a real server, command by command, and of the whole system at work."""

import hashlib
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ResponseError

from infra.local.home import Home
from infra.local.probes import redis_answers
from infra.local.servers import RedisServer
from infra.local.stack import Stack
from infra.redis import acl
from infra.redis.acl import OPERATOR, USERS, AclError
from shared.events.subscriptions import FOLLOWERS, PRODUCERS, SUBSCRIBERS
from shared.redis_clients import command_client, stream_of
from shared.streams import make_groups, trim
from shared.topology import SERVICES
from tests.support.system import System, create_project, search, settled, upload

PASSWORDS = {user: f"{user}-{'x' * 40}" for user in USERS}

# Everything one might try with a key. None of them blocks.
KEY_COMMANDS: Mapping[str, Callable[[str], Sequence[str]]] = {
    "xadd": lambda key: ("XADD", key, "*", "event", "{}"),
    "xtrim": lambda key: ("XTRIM", key, "MINID", "0"),
    "xdel": lambda key: ("XDEL", key, "1-1"),
    "xsetid": lambda key: ("XSETID", key, "9-9"),
    "xlen": lambda key: ("XLEN", key),
    "xrange": lambda key: ("XRANGE", key, "-", "+"),
    "xrevrange": lambda key: ("XREVRANGE", key, "+", "-", "COUNT", "1"),
    "xread": lambda key: ("XREAD", "STREAMS", key, "0"),
    "xreadgroup": lambda key: ("XREADGROUP", "GROUP", "g", "c", "STREAMS", key, ">"),
    "xack": lambda key: ("XACK", key, "g", "1-1"),
    "xclaim": lambda key: ("XCLAIM", key, "g", "c", "0", "1-1"),
    "xautoclaim": lambda key: ("XAUTOCLAIM", key, "g", "c", "0", "0"),
    "xpending": lambda key: ("XPENDING", key, "g"),
    "xgroup create": lambda key: ("XGROUP", "CREATE", key, "g", "0", "MKSTREAM"),
    "xgroup delconsumer": lambda key: ("XGROUP", "DELCONSUMER", key, "g", "c"),
    "xgroup destroy": lambda key: ("XGROUP", "DESTROY", key, "other"),
    "xgroup setid": lambda key: ("XGROUP", "SETID", key, "g", "$"),
    "xinfo stream": lambda key: ("XINFO", "STREAM", key),
    "xinfo groups": lambda key: ("XINFO", "GROUPS", key),
    "xinfo consumers": lambda key: ("XINFO", "CONSUMERS", key, "g"),
    "get": lambda key: ("GET", key),
    "set": lambda key: ("SET", key, "1"),
    "exists": lambda key: ("EXISTS", key),
    "del": lambda key: ("DEL", key),
    "unlink": lambda key: ("UNLINK", key),
    "rename": lambda key: ("RENAME", key, "elsewhere"),
    "copy": lambda key: ("COPY", key, "elsewhere"),
    "expire": lambda key: ("EXPIRE", key, "1"),
    "dump": lambda key: ("DUMP", key),
    "eval": lambda key: ("EVAL", "return 1", "1", key),
}
LOOKING = {"xinfo stream", "xinfo groups", "xinfo consumers", "xpending"}
PRODUCING = {"xadd", "xtrim", "xgroup create", *LOOKING}
SUBSCRIBING = {"xreadgroup", "xack", "xclaim", "xautoclaim", "xgroup create", "xgroup delconsumer", *LOOKING}
FOLLOWING = {"xread", "xrevrange"}
COUNTING = {"get", "set", "exists"}

LIMIT = "gateway:limit:user:1"
STREAMS = [stream_of(producer) for producer in PRODUCERS]
KEYS = [
    *STREAMS,
    *(f"{stream}:epoch" for stream in STREAMS),
    *(f"{stream}:wake" for stream in STREAMS),
    "events.progress",
    "notifier.feeds",
    LIMIT,
    "gateway:limits",
    "events.projects.copy",
    "elsewhere",
]

HARMLESS = [("PING",), ("TIME",), ("INFO", "memory"), ("CLIENT", "SETNAME", "n")]
DANGEROUS: list[Sequence[str]] = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("DBSIZE",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "intruder", "on", "nopass", "~*", "+@all"),
    ("INFO",),
    ("INFO", "server"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "ID", "1"),
    ("MONITOR",),
    ("SUBSCRIBE", "channel"),
    ("PUBLISH", "channel", "x"),
    ("MULTI",),
    ("SELECT", "1"),
    ("SWAPDB", "0", "1"),
    ("SCRIPT", "FLUSH"),
    ("FUNCTION", "LIST"),
    ("MODULE", "LIST"),
    ("REPLICAOF", "NO", "ONE"),
    ("SAVE",),
    ("SHUTDOWN", "NOSAVE"),
]


def allowed(service: str, key: str) -> set[str]:
    """Written down here once more, from who reads whose events, to be compared with what the server does."""
    commands: set[str] = set()
    for producer in PRODUCERS:
        if key == stream_of(producer):
            commands |= PRODUCING if service == producer else set()
            commands |= SUBSCRIBING if service in SUBSCRIBERS[producer] else set()
            commands |= FOLLOWING if service in FOLLOWERS[producer] else set()
        if key == f"{stream_of(producer)}:epoch" and service == producer:
            commands |= COUNTING
        if key == f"{stream_of(producer)}:wake" and service == producer:
            commands |= {"xadd", *FOLLOWING}
    others = {
        ("indexing", "events.progress"): {"xadd"},
        ("notifier", "events.progress"): FOLLOWING,
        ("notifier", "notifier.feeds"): {"xadd", *FOLLOWING},
        ("gateway", LIMIT): {"get", "set", "eval"},
    }
    return commands | others.get((service, key), set())


@pytest.fixture
def folder_of_redis(folders: Callable[[str], Path]) -> Path:
    return folders("redis")


@pytest.fixture(scope="module")
async def server(folders: Callable[[str], Path]) -> AsyncIterator[RedisServer]:
    folder = folders("redis")
    running = RedisServer(folder, folder, environment=dict(os.environ), passwords=PASSWORDS)
    await running.start()
    yield running
    await running.stop()


@asynccontextmanager
async def connected(server: RedisServer, user: str) -> AsyncIterator[Redis]:
    client = command_client(server.url(user=user))
    try:
        yield client
    finally:
        await client.aclose()


async def may(client: Redis, *command: str) -> bool:
    """Whether the server lets the client do it, with or without success."""
    try:
        await client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py declares no arguments
    except NoPermissionError:
        return False
    except ResponseError:
        return True
    return True


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_may_do_with_keys_what_its_part_needs_and_nothing_else(
    server: RedisServer, service: str
) -> None:
    async with connected(server, service) as client:
        for key in KEYS:
            found = {name for name, command in KEY_COMMANDS.items() if await may(client, *command(key))}
            assert found == allowed(service, key), key


@pytest.mark.parametrize("service", SERVICES)
async def test_no_service_may_do_what_concerns_the_whole_server(server: RedisServer, service: str) -> None:
    async with connected(server, service) as client:
        assert [command for command in DANGEROUS if await may(client, *command)] == []
        assert [command for command in HARMLESS if not await may(client, *command)] == []


@pytest.mark.parametrize("service", SERVICES)
async def test_a_command_on_two_keys_needs_a_right_on_both(server: RedisServer, service: str) -> None:
    async with connected(server, service) as client:
        for stream in STREAMS:
            reading = "xread" in allowed(service, stream)
            assert await may(client, "XREAD", "STREAMS", stream, "0") == reading
            assert not await may(client, "XREAD", "STREAMS", stream, "elsewhere", "0", "0")


async def test_a_script_of_the_gateway_reaches_no_further_than_the_gateway(server: RedisServer) -> None:
    async with connected(server, OPERATOR) as operator, connected(server, "gateway") as client:
        await operator.set("events.identity:epoch", "first")
        for script in (
            "return redis.call('SET', 'events.identity:epoch', 'second')",
            "return redis.call('XADD', 'events.identity', '*', 'event', '{}')",
            "return redis.call('FLUSHALL')",
        ):
            with pytest.raises(ResponseError):
                await client.eval(script, 0)
        assert await operator.get("events.identity:epoch") == b"first"


@pytest.mark.parametrize("producer", PRODUCERS)
async def test_a_producer_makes_the_groups_of_its_stream_and_trims_it(server: RedisServer, producer: str) -> None:
    stream = stream_of(producer)
    async with connected(server, producer) as client:
        await make_groups(client, stream, SUBSCRIBERS[producer])
        await client.xadd(stream, {"event": "{}"})
        await trim(client, stream, SUBSCRIBERS[producer])
    for subscriber in SUBSCRIBERS[producer]:
        async with connected(server, subscriber) as client:
            await make_groups(client, stream, [subscriber])
            assert await client.xreadgroup(subscriber, "one", {stream: ">"}, count=1)


async def test_the_operator_may_do_everything(server: RedisServer) -> None:
    async with connected(server, OPERATOR) as client:
        assert await client.acl_whoami() == OPERATOR
        assert await may(client, "KEYS", "*")
        assert await may(client, "DEL", "events.projects")
        assert await client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


async def test_nobody_else_gets_in(server: RedisServer) -> None:
    projects = server.url(user="projects")
    for url, answer in (
        (f"unix://{server.socket}", "Authentication required"),
        (projects.replace(PASSWORDS["projects"], PASSWORDS["identity"]), "invalid username-password"),
        (projects.replace("projects:", "unknown:"), "invalid username-password"),
    ):
        client = command_client(url)
        with pytest.raises(RedisConnectionError, match=answer):
            await client.ping()
        await client.aclose()


async def test_the_probe_of_readiness_has_to_say_who_it_is(server: RedisServer) -> None:
    assert await redis_answers(server.socket, (OPERATOR, PASSWORDS[OPERATOR]))
    assert not await redis_answers(server.socket)
    assert not await redis_answers(server.socket, (OPERATOR, "wrong"))
    assert not await redis_answers(server.socket.with_name("nowhere.sock"), (OPERATOR, PASSWORDS[OPERATOR]))


async def test_accounts_follow_the_secrets_at_the_next_start(folder_of_redis: Path) -> None:
    folder = folder_of_redis
    environment = dict(os.environ)
    before = RedisServer(folder, folder, environment=environment, passwords=PASSWORDS)
    await before.start()
    async with connected(before, "projects") as client:
        await client.xadd("events.projects", {"event": "{}"})
    before.process.kill()
    await before.process.wait()
    await before.start()
    async with connected(before, OPERATOR) as client:
        assert await client.acl_whoami() == OPERATOR
        await client.waitaof(1, 0, 2_000)
    await before.stop()
    changed = {user: f"{password}-changed" for user, password in PASSWORDS.items()}
    after = RedisServer(folder, folder, environment=environment, passwords=changed)
    await after.start()
    try:
        async with connected(after, "projects") as client:
            assert (await client.xinfo_stream("events.projects"))["length"] == 1
        stale = command_client(before.url(user="projects"))
        with pytest.raises(RedisConnectionError, match="invalid username-password"):
            await stale.ping()
        await stale.aclose()
    finally:
        await after.stop()


async def test_what_a_group_has_taken_is_still_pending_after_redis_was_killed(folder_of_redis: Path) -> None:
    server = RedisServer(folder_of_redis, folder_of_redis, environment=dict(os.environ), passwords=PASSWORDS)
    stream = stream_of("projects")
    await server.start()
    try:
        async with connected(server, "projects") as producer:
            await make_groups(producer, stream, ("indexing",))
            for number in range(3):
                await producer.xadd(stream, {"event": str(number)})
        async with connected(server, "indexing") as consumer:
            await consumer.xreadgroup("indexing", "one", {stream: ">"}, count=3)
            before = await consumer.xinfo_groups(stream)
            assert before[0]["pending"] == 3
        server.process.kill()
        await server.process.wait()
        await server.start()
        async with connected(server, "indexing") as consumer:
            assert await consumer.xinfo_groups(stream) == before
    finally:
        await server.stop()


async def test_a_folder_made_before_there_were_accounts_comes_up_with_them(folders: Callable[[str], Path]) -> None:
    folder = folders("old")
    home = Home(folder)
    home.prepare()
    old = RedisServer(home.redis, home.sockets(), environment=dict(os.environ))
    await old.start()
    async with Redis.from_url(old.url()) as client:
        await client.xadd("events.projects", {"event": "{}"})
        await client.waitaof(1, 0, 2_000)
    await old.stop()
    async with (
        Stack(Home(folder), durable=False, with_oidc=False) as stack,
        Redis.from_url(stack.redis.url(user="projects")) as client,
    ):
        assert (await client.xinfo_stream("events.projects"))["length"] == 1
        assert not await may(client, "DEL", "events.projects")


def test_the_file_holds_no_password_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    acl.write(path, PASSWORDS)
    acl.write(path, PASSWORDS)
    text = path.read_text()
    assert not [user for user, password in PASSWORDS.items() if password in text]
    assert hashlib.sha256(PASSWORDS["indexing"].encode()).hexdigest() in text
    assert text.startswith("user default off ")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["users.acl"]


def test_a_missing_or_guessable_password_is_refused() -> None:
    with pytest.raises(AclError, match=r"for projects, operator$"):
        acl.render({**PASSWORDS, "projects": "secret", OPERATOR: ""})


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Passwords are in the environment, the operator's in a file of it; gives where the access list is to be."""
    for user in SERVICES:
        monkeypatch.setenv(f"QUARRY_{user.upper()}_REDIS_PASSWORD", PASSWORDS[user])
    (tmp_path / "operator").write_text(f"{PASSWORDS[OPERATOR]}\n")
    monkeypatch.setenv("QUARRY_OPERATOR_REDIS_PASSWORD_FILE", str(tmp_path / "operator"))
    monkeypatch.setattr(sys, "argv", ["acl", str(tmp_path / "users.acl")])
    yield tmp_path / "users.acl"


def test_the_command_writes_the_file_from_the_environment(told: Path) -> None:
    acl.main()
    assert told.read_text() == acl.render(PASSWORDS)


def test_the_command_says_what_it_lacks(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUARRY_GATEWAY_REDIS_PASSWORD")
    with pytest.raises(SystemExit, match=r"for gateway$"):
        acl.main()
    monkeypatch.setenv("QUARRY_OPERATOR_REDIS_PASSWORD_FILE", str(told / "nowhere"))
    with pytest.raises(SystemExit, match="QUARRY_OPERATOR_REDIS_PASSWORD_FILE: cannot read"):
        acl.main()
    monkeypatch.setattr(sys, "argv", ["acl"])
    with pytest.raises(SystemExit, match=r"^usage:"):
        acl.main()
    assert not told.exists()


@pytest.mark.long
async def test_the_system_at_work_asks_for_nothing_it_may_not(system: System) -> None:
    """Redis keeps a log of what it refused. Work, a killed consumer and a Redis that forgot leave it empty."""
    _, owner = await system.tenant("accounts")
    project = await create_project(owner)
    async with Redis.from_url(system.stack.redis.url()) as operator, httpx.AsyncClient() as client:
        for number, disturb in enumerate((_nothing, _kill_projects, _flush)):
            await upload(owner, project, f"note-{number}.txt", f"zebra number {number}".encode())
            await disturb(system, operator)
            documents = await settled(owner, project, number + 1)
            assert {item["status"] for item in documents} == {"indexed"}
        assert len(await search(owner, project, "zebra", mode="keyword")) == 3
        for name in PRODUCERS:
            assert (await client.get(f"{system.services[name].url}/metrics")).status_code == 200
        refused = [(item["username"], item["object"]) for item in await operator.acl_log()]
    assert refused == []


async def _nothing(_system: System, _operator: Redis) -> None:
    return


async def _kill_projects(system: System, _operator: Redis) -> None:
    system.services["projects"].kill()
    await system.services["projects"].wait()
    await system.restart("projects")


async def _flush(_system: System, operator: Redis) -> None:
    await operator.flushall()
