"""`uv run bench`: the service levels, measured on a running system through the gateway.

    uv run bench                    every measurement
    uv run bench upload search      some of them
    uv run bench crud --quick       a shorter one, where it can be

Everything runs on this machine, with the disk waited for as in production. Figures are in milliseconds unless they say
otherwise; each line names what was counted. Compare figures of one run with each other, not runs of different hours.
"""

import argparse
import platform
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import httpx
import psutil
import uvloop

from tests.bench import answers, cancelling, crud, events, large_search, made_chunks, measurements, quality, uploads
from tests.support.system import System, running_system

Measurement = Callable[[System, httpx.AsyncClient], Awaitable[None]]
MEASUREMENTS: dict[str, Measurement] = {
    "upload": measurements.upload_to_searchable,
    "crud": crud.crud,
    "uploads": crud.uploads,
    "search": measurements.search,
    "large-search": large_search.large_search,
    "indexing": measurements.indexing,
    "ask": answers.asked,
    "ask-judged": answers.asked_judged,
    "quality": quality.quality,
}


BACKBONE = "events"
ANSWERS = "answers"
CANCEL = "cancel"
LARGE_UPLOADS = "large-uploads"
# They need none, or one of their own.
WITHOUT_A_SYSTEM = {
    BACKBONE: events.backbone,
    ANSWERS: answers.quoted,
    CANCEL: cancelling.cancelling,
    LARGE_UPLOADS: uploads.large,
}


QUICK = {"crud": partial(crud.crud, quick=True), "uploads": partial(crud.uploads, quick=True)}


async def main(names: list[str], *, quick: bool) -> None:
    folder = Path(tempfile.mkdtemp(prefix="quarry-bench-", dir="/tmp"))
    print(f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}")
    try:
        for name in WITHOUT_A_SYSTEM.keys() & set(names):
            await WITHOUT_A_SYSTEM[name](folder / name)
        if through_the_gateway := [name for name in names if name not in WITHOUT_A_SYSTEM]:
            await _measure(folder, through_the_gateway, {**MEASUREMENTS, **(QUICK if quick else {})})
    finally:
        shutil.rmtree(folder)


async def _measure(folder: Path, names: list[str], measurements_of: Mapping[str, Measurement]) -> None:
    began = time.perf_counter()
    listening = {made_chunks.SOCKET: str(folder / "vectors.sock")}
    unlimited = {"QUARRY_GATEWAY_TENANT_PER_MINUTE": "1000000", "QUARRY_GATEWAY_USER_PER_MINUTE": "1000000"}
    extra = {"indexing": listening, "gateway": unlimited, "projects": {"QUARRY_PROJECTS_TENANT_PROJECTS": "1000000"}}
    async with running_system(folder, durable=True, extra=extra) as system:
        print(f"start of the whole system, cold: {time.perf_counter() - began:.1f} s")
        _, client = await system.tenant("bench")
        for name in names:
            await measurements_of[name](system, client)
        measurements.memory(system)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench", description="Measure the service levels.")
    parser.add_argument(
        "names",
        nargs="*",
        choices=[*MEASUREMENTS, *WITHOUT_A_SYSTEM, []],
        help="what to measure; everything by default",
    )
    parser.add_argument("--quick", action="store_true", help=f"a shorter run of {', '.join(QUICK)}")
    given = parser.parse_args()
    uvloop.run(main(given.names or [*WITHOUT_A_SYSTEM, *MEASUREMENTS], quick=given.quick))
