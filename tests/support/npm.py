"""Programs of the npm registry that tests run: installed once a test run, with the client that the machine has."""

import asyncio
import shutil
from pathlib import Path

import pytest

_INSTALL_SECONDS = 300.0


async def installed(project: Path, folder: Path) -> Path:
    """A copy of `project` in `folder` with all that its package.json names; skips the test where npm is missing."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    copy = folder / project.name
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns("node_modules"))
    # Its own Node, which may be newer than the machine's, is put in place by a script of its package.
    await run([npm, "install", "--no-audit", "--no-fund", "--no-package-lock"], copy, seconds=_INSTALL_SECONDS)
    return copy


async def run(command: list[str], folder: Path, *, given: bytes = b"", seconds: float = 60.0) -> bytes:
    """What the command writes to its standard output; fails with all it says when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, (command, output[-4000:].decode(), errors[-4000:].decode())
    return output
