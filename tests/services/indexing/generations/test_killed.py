"""A re-index whose process ends at any point is finished by the next one, and search answers the same all the while."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from shared.failpoints import EXIT_STATUS, VARIABLE
from tests.services.indexing.generations.conftest import Project
from tests.services.indexing.uploads import Library
from tests.support.identity import IdentityDouble
from tests.support.polling import eventually

Environment = dict[str, str]
ROOT = Path(__file__).resolve().parents[4]
pytestmark = pytest.mark.usefixtures("quiet_queue")


@asynccontextmanager
async def process(
    environment: Environment, socket: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    """The service as a process, ready; killed at the end if it has not ended before."""
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "--factory", "services.indexing.main:create_app"),
        *("--uds", str(socket), "--no-access-log", "--log-level", "warning"),
        cwd=ROOT,
        env={**{name: value for name, value in os.environ.items() if not name.startswith("QUARRY_")}, **environment},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=30) as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(ready, within=60)
            yield started, client
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


@pytest.mark.parametrize("where", ["generations.after_write=exit@2", "generations.before_switch=exit", None])
async def test_a_killed_process_is_succeeded(
    environment: Environment, library: Library, tokens: IdentityDouble, tmp_path: Path, where: str | None
) -> None:
    own = {**environment, "QUARRY_INDEXING_DATA_DIR": str(tmp_path / "data")}
    failing = own if where is None else {**own, VARIABLE: where}
    async with process(failing, tmp_path / "first") as (first, client):
        project = Project(client, tokens, library)
        await project.fill(12)
        before = await project.answers()
        await project.reindex()
        if where is None:
            first.kill()
        async with asyncio.timeout(30):
            assert await first.wait() == (-9 if where is None else EXIT_STATUS)
    assert await project.states() == {3: "building", 2: "active"}
    async with process(own, tmp_path / "second") as (_, client):
        project = Project(client, tokens, library, project.user_id)
        asked = 0
        while (await project.states())[3] == "building":
            assert await project.answers() == before
            asked += 1
        assert asked
        assert await project.answers() == before
        await project.becomes({3: "active", 2: "kept"})
