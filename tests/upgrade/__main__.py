"""Whether a system with data made by older code starts on this code with all of it.

    uv run python -m tests.upgrade --from REF

A system of the older revision, in a work tree and an environment of its own, is filled through its gateway and stopped.
This code is started on the same folder; whatever a client could read before must read the same, apart from fields that
were added, and new work must go on from there. Prints what was compared; exits 1 when anything differs.

REF is any name of a commit that `git` knows. Installing its environment needs the package index.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import uvloop

from infra.local.home import ROOT, Home, read_json
from infra.local.processes import Process
from tests.support.polling import eventually
from tests.upgrade import content

STARTED_WITHIN = 180.0


async def main(revision: str) -> bool:
    """Whether everything was there."""
    folder = Path(tempfile.mkdtemp(prefix="quarry-upgrade-", dir="/tmp"))
    try:
        with _checkout(revision, folder / "older") as older:
            async with _running(older, folder / "home") as client:
                await content.make(client)
                before = await content.seen(client)
        async with _running(ROOT, folder / "home") as client:
            after = await content.seen(client)
            differences = [line for name in before for line in content.lost(before[name], after[name], name)]
            await content.go_on(client)
    finally:
        shutil.rmtree(folder)
    for name, value in before.items():
        print(f"{name}: {len(value) if isinstance(value, list) else 1} compared")
    for line in differences:
        print(f"differs: {line}")
    return not differences


@contextmanager
def _checkout(revision: str, folder: Path) -> Iterator[Path]:
    """A work tree of `revision` with its dependencies installed."""
    _git("worktree", "add", "--quiet", "--detach", str(folder), revision)
    try:
        subprocess.run(["uv", "sync", "--quiet", "--compile-bytecode"], cwd=folder, env=_environment(), check=True)
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, check=True)


@asynccontextmanager
async def _running(root: Path, home: Path) -> AsyncIterator[httpx.AsyncClient]:
    """`uv run dev` of a checkout over the data in `home`, and a client with the key of its first tenant."""
    environment = {**_environment(), "QUARRY_HOME": str(home), "QUARRY_GATEWAY_PORT": str(_free_port())}
    dev = Process("dev", ["uv", "run", "--no-sync", "dev"], env=environment, cwd=root)
    await dev.start()
    try:

        async def up() -> bool:
            return any("Quarry is up" in line for line in dev.log) or not dev.running

        await eventually(up, within=STARTED_WITHIN, every=0.2)
        if not dev.running:
            raise SystemExit(f"dev ended:\n{dev.tail(40)}")
        known = read_json(Home(home).dev_json)
        headers = {"Authorization": f"Bearer {known['api_key']}"}
        async with httpx.AsyncClient(base_url=str(known["gateway_url"]), headers=headers, timeout=60) as client:
            yield client
    finally:
        dev.send(signal.SIGINT)
        await dev.wait()


def _environment() -> Mapping[str, str]:
    """This process's environment without the virtual environment it runs in."""
    return {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="upgrade", description="Start this code on data made by older code.")
    parser.add_argument("--from", dest="revision", required=True, metavar="REF", help="the older commit")
    sys.exit(0 if uvloop.run(main(parser.parse_args().revision)) else 1)
