"""`uv run faults`: the long fault runs, on a system of their own. All end with status 1 when an invariant broke.

uv run faults matrix                                  every failpoint x {exit, raise, hang}, 200 commands each
uv run faults matrix --only relay. --action exit      those whose name begins so, one action
uv run faults soak --minutes 10 --seed 7              random faults, reproducible by their seed
uv run faults containers --minutes 10 --seed 7        containers killed and cut off, in a scaled compose project
uv run faults answers --times 1000 --freeze-redis     effects looked for right after their answers
uv run faults list                                    the failpoints and what a crash there leaves behind
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path

from infra.local.home import ROOT
from infra.local.ports import any_free
from shared.failpoints import Action, declared
from tests.containers.chaos import SCALE, chaos
from tests.containers.compose import compose_project
from tests.faults import answers
from tests.faults import matrix as matrices
from tests.faults.places import every_name
from tests.faults.soak import soak
from tests.faults.systems import proxied_system
from tests.support.system import running_system


async def run_matrix(given: argparse.Namespace) -> bool:
    names = [name for name in every_name() if not given.only or any(name.startswith(part) for part in given.only)]
    actions = [Action(given.action)] if given.action else list(Action)
    wanted = matrices.scenarios(names, seed=given.seed, actions=actions, service=given.service)
    results = []
    folder = Path(tempfile.mkdtemp(prefix="quarry-matrix-", dir="/tmp"))
    passed = False
    try:
        async with (
            running_system(folder) as system,
            matrices.matrix(system, seed=given.seed, commands=given.commands) as matrix,
        ):
            for number, scenario in enumerate(wanted, 1):
                result = await matrix.run(scenario)
                results.append(result)
                print(f"{number}/{len(wanted)} {scenario.order} in {scenario.service}: {result.verdict}", flush=True)
                for violation in result.violations:
                    print(violation, flush=True)
        passed = bool(results) and all(result.passed for result in results)
    finally:
        text = matrices.table(results)
        print(f"seed {given.seed}\n{text}")
        if given.output:
            given.output.write_text(f"Seed {given.seed}, {given.commands} commands a scenario.\n\n{text}", "utf-8")
        _tidy(folder, passed=passed)
    return passed


async def run_soak(given: argparse.Namespace) -> bool:
    folder = Path(tempfile.mkdtemp(prefix="quarry-soak-", dir="/tmp"))
    passed = False
    try:
        async with proxied_system(folder, durable=True) as proxied:
            outcomes = await soak(proxied, seed=given.seed, seconds=given.minutes * 60)
        print(outcomes)
        passed = not outcomes.violations
    finally:
        print(f"seed {given.seed}: {'passed' if passed else 'FAILED'}")
        _tidy(folder, passed=passed)
    return passed


async def run_answers(given: argparse.Namespace) -> bool:
    folder = Path(tempfile.mkdtemp(prefix="quarry-answers-", dir="/tmp"))
    passed = False
    try:
        async with running_system(folder, extra=answers.SETTINGS) as system:
            cases = given.only or list(answers.CASES)
            counts = await answers.try_all(system, cases, given.times, redis_frozen=given.freeze_redis, say=print)
        for count in counts:
            print(count)
        passed = not any(count.wrong for count in counts)
    finally:
        _tidy(folder, passed=passed)
    return passed


async def run_containers(given: argparse.Namespace) -> bool:
    folder = Path(tempfile.mkdtemp(prefix="quarry-containers-", dir="/tmp"))
    passed = False
    try:
        async with compose_project(f"quarry-faults-{os.getpid()}", folder, any_free()) as compose:
            await compose.run("build")
            try:
                await compose.up(SCALE)
                outcomes = await chaos(compose, seed=given.seed, seconds=given.minutes * 60)
                print(outcomes)
                passed = not outcomes.violations
            finally:
                (folder / "system.log").write_text(await compose.run("logs", "--no-color", "--timestamps"), "utf-8")
    finally:
        print(f"seed {given.seed}: {'passed' if passed else 'FAILED'}")
        _tidy(folder, passed=passed)
    return passed


def _tidy(folder: Path, *, passed: bool) -> None:
    """After a failure the system's log is kept, and nothing else."""
    if not passed:
        handle, name = tempfile.mkstemp(prefix="quarry-faults-", suffix=".log")
        os.close(handle)
        if (folder / "system.log").is_file():
            shutil.copyfile(folder / "system.log", name)
            print(f"the log of the system: {name}")
    shutil.rmtree(folder)


def list_failpoints(_given: argparse.Namespace) -> None:
    every_name()
    for name, failpoint in declared().items():
        print(f"{name:34} {failpoint.state}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="faults", description="Break the system on purpose, and check what it promises."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    matrix = commands.add_parser("matrix", help="every failpoint with every action")
    matrix.add_argument("--only", action="append", metavar="PREFIX", help="failpoints whose name begins so")
    matrix.add_argument("--action", choices=[action.value for action in Action])
    matrix.add_argument("--service", help="the host, where a failpoint has several")
    matrix.add_argument("--seed", type=int, default=1)
    matrix.add_argument("--commands", type=int, default=200, help="in each scenario")
    matrix.add_argument("--output", type=Path, help="write the table there, in Markdown")
    soaking = commands.add_parser("soak", help="minutes of random faults")
    soaking.add_argument("--minutes", type=float, default=10.0)
    soaking.add_argument("--seed", type=int, default=1)
    containers = commands.add_parser("containers", help="containers killed and cut off; needs a Docker engine")
    containers.add_argument("--minutes", type=float, default=10.0)
    containers.add_argument("--seed", type=int, default=1)
    answered = commands.add_parser("answers", help="effects looked for right after their answers")
    answered.add_argument("--times", type=int, default=100, help="tries of each case")
    answered.add_argument("--only", action="append", metavar="CASE", choices=list(answers.CASES))
    answered.add_argument("--freeze-redis", action="store_true", help="after the preparations")
    commands.add_parser("list", help="the failpoints")
    given = parser.parse_args()
    os.environ.setdefault("QUARRY_INDEXING_MODEL_DIR", str(ROOT / ".quarry" / "models"))
    if given.command == "list":
        list_failpoints(given)
        return 0
    run = {"matrix": run_matrix, "soak": run_soak, "containers": run_containers, "answers": run_answers}[given.command]
    return 0 if asyncio.run(_until_told(run(given))) else 1


async def _until_told(work: Coroutine[None, None, bool]) -> bool:
    """Ctrl-C and SIGTERM end a run in order: the table so far is printed, and nothing is left behind."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await work
    except asyncio.CancelledError:
        return False


if __name__ == "__main__":
    sys.exit(main())
