"""Owners of a shared engine, in this process and in one that can be killed, and those who use them."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.indexing.vectors.embedded.remote_engine import RemoteEngine
from services.indexing.vectors.embedded.serving_engine import ServingEngine
from tests.services.indexing.vectors.samples import DIMENSIONS

ROOT = Path(__file__).parents[4]
PROGRAM = """
import asyncio, sys
from pathlib import Path
from tests.services.indexing.vectors.owners import owner_in

async def main() -> None:
    await owner_in(Path(sys.argv[1])).start()
    print("serving", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def socket_in(folder: Path) -> Path:
    return folder / "run" / "vectors.sock"


def owner_in(folder: Path, *, call_timeout: float = 10.0) -> ServingEngine:
    return ServingEngine(
        folder,
        listen=socket_in(folder),
        dimensions=DIMENSIONS,
        lock_timeout=10.0,
        call_timeout=call_timeout,
    )


def user_of(folder: Path, *, call_timeout: float = 10.0, dimensions: int = DIMENSIONS) -> RemoteEngine:
    return RemoteEngine(socket_in(folder), dimensions=dimensions, call_timeout=call_timeout)


@asynccontextmanager
async def running(*engines: ServingEngine | RemoteEngine) -> AsyncIterator[None]:
    started: list[ServingEngine | RemoteEngine] = []
    try:
        for engine in engines:
            await engine.start()
            started.append(engine)
        yield
    finally:
        for engine in reversed(started):
            await engine.stop()


@asynccontextmanager
async def owner_process(folder: Path, program: str = PROGRAM) -> AsyncIterator[asyncio.subprocess.Process]:
    """Serving; whoever kills it need not wait for it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(folder), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        said = await asyncio.wait_for(process.stdout.readline(), 60)
        assert said == b"serving\n", "it did not start; its own words are in the captured stderr"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
