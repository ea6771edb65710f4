"""`uv run bench`: the service levels, measured on a running system through the gateway.

    uv run bench                    every measurement
    uv run bench upload search      some of them

Everything runs on this machine, with the disk waited for as in production. Figures are in milliseconds unless they say
otherwise; each line names what was counted. Compare figures of one run with each other, not runs of different hours.
"""

import argparse
import platform
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import psutil
import uvloop

from tests.bench import answers, cancelling, events, made_chunks, measurements, quality, uploads
from tests.support.system import System, running_system

MEASUREMENTS: dict[str, Callable[[System, httpx.AsyncClient], Awaitable[None]]] = {
    "upload": measurements.upload_to_searchable,
    "crud": measurements.crud,
    "search": measurements.search,
    "indexing": measurements.indexing,
    "ask": answers.asked,
    "ask-judged": answers.asked_judged,
    "quality": quality.quality,
}


BACKBONE = "events"
ANSWERS = "answers"
CANCEL = "cancel"
UPLOADS = "uploads"
# They need none, or one of their own.
WITHOUT_A_SYSTEM = {
    BACKBONE: events.backbone,
    ANSWERS: answers.quoted,
    CANCEL: cancelling.cancelling,
    UPLOADS: uploads.large,
}


async def main(names: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="quarry-bench-", dir="/tmp"))
    print(f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}")
    try:
        for name in WITHOUT_A_SYSTEM.keys() & set(names):
            await WITHOUT_A_SYSTEM[name](folder / name)
        if through_the_gateway := [name for name in names if name not in WITHOUT_A_SYSTEM]:
            await _measure(folder, through_the_gateway)
    finally:
        shutil.rmtree(folder)


async def _measure(folder: Path, names: list[str]) -> None:
    began = time.perf_counter()
    listening = {made_chunks.SOCKET: str(folder / "vectors.sock")}
    async with running_system(folder, durable=True, extra={"indexing": listening}) as system:
        print(f"start of the whole system, cold: {time.perf_counter() - began:.1f} s")
        _, client = await system.tenant("bench")
        for name in names:
            await MEASUREMENTS[name](system, client)
        measurements.memory(system)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench", description="Measure the service levels.")
    parser.add_argument(
        "names",
        nargs="*",
        choices=[*MEASUREMENTS, *WITHOUT_A_SYSTEM, []],
        help="what to measure; everything by default",
    )
    uvloop.run(main(parser.parse_args().names or [*WITHOUT_A_SYSTEM, *MEASUREMENTS]))
