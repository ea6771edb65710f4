"""The commands behind `uv run ...` and `poetry run ...`."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from infra.local import dev as dev_command
from infra.local.environment import role_passwords
from infra.local.errors import HomeBusyError, StackError
from infra.local.home import ROOT, Home
from infra.local.stack import apply_migrations, make_postgres
from infra.postgres.bootstrap import bootstrap


def dev() -> None:
    """The whole system in the foreground, restarted on change."""
    sys.exit(dev_command.main())


# Tests of the whole system. Their coverage is not measured: coverage is for a part's own tests.
_WHOLE_SYSTEM = ("tests/faults", "tests/flows", "tests/isolation")

# Where tests have the marks `long` and `containers`: collecting all others takes as long as some of them.
# The longest first, so that both processes end at about the same time.
_LONG = (
    "tests/isolation",
    "tests/faults/test_soak.py",
    "tests/faults",
    "tests/flows/test_mcp_npm.py",
    "tests/flows/test_resumable_npm.py",
    "tests/infra/test_redis_acl.py",
)
_IN_CONTAINERS = ("tests/infra", "tests/support")
_MEASURING = (
    "tests/isolation/test_timing.py",
    "tests/faults/test_resources.py",
    "tests/faults/test_postgres_frozen.py",
)


# By file, since a file's tests share expensive setup, and in the order given.
_SIDE_BY_SIDE = ("--dist", "loadfile", "--no-loadscope-reorder")
_USUAL = "not long and not containers and not installs"
_LONG_ONES = "long and not containers"
_Command = tuple[str, ...]


def test() -> None:
    """Run tests in parallel, first of each part, then of the whole system; or pytest with the arguments given.

    `--coverage` runs those of each part and holds branch coverage to its floor, which takes half as long again.
    `--isolation` runs the attacks on the isolation of tenants, and prints the matrix of endpoints and attackers;
    `--long` the faults that take long, and `--containers` those that need a Docker engine; both are left out otherwise.
    `--installs` installs the project in each documented way, which takes minutes and a package registry.
    `--system URL` runs the flows of clients on a system that is running already.
    """
    option, *more = sys.argv[1:] or [""]
    cores = min(4, os.cpu_count() or 1)
    if option == "--system":
        if not more:
            sys.exit("usage: test --system URL [pytest arguments]")
        os.environ["QUARRY_TEST_SYSTEM_URL"] = more[0]
        sys.exit(_call(*_pytest("system", "tests/flows", *more[1:])))
    if option == "--installs":
        sys.exit(_call(*_pytest("installs", "tests/infra/test_installs.py", *more)))
    if option == "--isolation":
        # In one process: the matrix is counted in memory.
        sys.exit(_call(*_pytest("isolation", "tests/isolation", *more)))
    if option == "--long":
        # Two at a time, for they mostly wait for frozen or stopped processes; what measures time comes after, alone.
        others = [f"--ignore={path}" for path in _MEASURING]
        long = ("-n2", *_SIDE_BY_SIDE, *others, *_chosen(_LONG, more))
        sys.exit(_call(*_pytest(_LONG_ONES, *long)) or _call(*_pytest(_LONG_ONES, *_MEASURING, *more)))
    if option == "--containers":
        sys.exit(_call(*_pytest("containers", *_chosen(_IN_CONTAINERS, more))))
    if option == "--coverage":
        sys.exit(_call(*_parts(2 * cores), "--cov", "--cov-report=term", *more))
    if option:
        sys.exit(_call(sys.executable, "-m", "pytest", option, *more))
    # Twice as many as there are cores, for these tests wait half of their time; whole systems do not.
    sys.exit(_call(*_parts(2 * cores)) or _call(*_pytest(_USUAL, _number(cores), *_SIDE_BY_SIDE, *_WHOLE_SYSTEM)))


def _pytest(marks: str, *arguments: str) -> _Command:
    return (sys.executable, "-m", "pytest", "-m", marks, *arguments)


def _parts(processes: int) -> _Command:
    """In the order of the tree, which has long ones early."""
    others = [f"--ignore={folder}" for folder in _WHOLE_SYSTEM]
    return _pytest(_USUAL, _number(processes), *_SIDE_BY_SIDE, *others)


def _number(processes: int) -> str:
    alone = os.environ.get("QUARRY_TEST_SERVERS") == "external"
    return "-n1" if alone else f"-n{processes}"


def _chosen(folders: tuple[str, ...], arguments: list[str]) -> list[str]:
    """The arguments; `folders` as well, unless they name files themselves."""
    return arguments if any(Path(item.partition("::")[0]).exists() for item in arguments) else [*folders, *arguments]


def lint() -> None:
    """ruff, the formatter, import contracts and stale documents; all, even when the first one fails."""
    checks = (
        (_tool("ruff"), "check", "."),
        (_tool("ruff"), "format", "--check", "."),
        (_tool("lint-imports"),),
        (sys.executable, "-m", "infra.contracts", "--check"),
        (sys.executable, "-m", "infra.checks.failpoints"),
    )
    sys.exit(max(_call(*check) for check in checks))


def contracts() -> None:
    """Documents of the contracts between services; `--check` only says which are stale."""
    sys.exit(_call(sys.executable, "-m", "infra.contracts", *sys.argv[1:]))


def type_check() -> None:
    """mypy; arguments are passed on."""
    sys.exit(_call(sys.executable, "-m", "mypy", *sys.argv[1:]))


def bench() -> None:
    """The service levels, measured; arguments are passed on."""
    sys.exit(_call(sys.executable, "-m", "tests.bench", *sys.argv[1:]))


def dead_letters() -> None:
    """Events that could not be handled: list, show, redrive; arguments are passed on."""
    sys.exit(_call(sys.executable, "-m", "infra.operator.dead_letters", *sys.argv[1:]))


def vectors() -> None:
    """Generations of the vector store: status, check, reindex, rollback; arguments are passed on."""
    sys.exit(_call(sys.executable, "-m", "infra.operator.vectors", *sys.argv[1:]))


def faults() -> None:
    """The long fault runs of `tests/faults`; arguments are passed on."""
    sys.exit(_call(sys.executable, "-m", "tests.faults", *sys.argv[1:]))


def fuzz() -> None:
    """Two tenants at once, with requests made by chance and from the API's own document; arguments are passed on."""
    sys.exit(_call(sys.executable, "-m", "tests.isolation.fuzz", *sys.argv[1:]))


def secrets() -> None:
    """The secrets of the system in containers; arguments are passed on."""
    sys.exit(_call(sys.executable, "-m", "infra.docker.secrets", *sys.argv[1:]))


def mutate() -> None:
    """Guards removed one at a time, to see that tests fail; arguments are passed on."""
    sys.exit(_call(sys.executable, "-m", "tests.isolation.mutations", *sys.argv[1:]))


def migrate() -> None:
    """Apply all migrations: to the databases named in the environment, else to the embedded one, started if need be."""
    if any(name.startswith("QUARRY_") and "_OWNER_DATABASE_URL" in name for name in os.environ):
        sys.exit(_call(sys.executable, "-m", "infra.operator.migrate"))
    try:
        asyncio.run(_migrate_embedded(Home.current(os.environ)))
    except StackError as error:
        sys.exit(str(error))


async def _migrate_embedded(home: Home) -> None:
    home.prepare()
    postgres = make_postgres(home, os.environ)
    try:
        with home.lock():
            try:
                await postgres.start()
                await bootstrap(postgres.admin_dsn(), role_passwords(home))
                await apply_migrations(home, postgres, os.environ)
            finally:
                await postgres.stop()
                home.remove_sockets()
    except HomeBusyError:
        # `uv run dev` runs: its server is the one to migrate.
        await apply_migrations(home, postgres, os.environ)
    print(f"the database in {home.folder} is up to date")


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _call(*command: str) -> int:
    process = subprocess.Popen(command, cwd=ROOT)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The command got the signal as well and decides when to end.
            continue
