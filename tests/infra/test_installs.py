"""Each documented way to install, in a clone that has nothing but what is committed: sign in, upload, find.

Minutes, and a package registry: `uv run test --installs`. The Python is that of the run. Poetry is installed as well,
with a plugin that is idle unless `POETRY_PYPI_MIRROR_URL` names a registry without PyPI's own JSON interface.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from infra.local.home import ROOT
from infra.local.ports import any_free
from tests.support.browser import Browser
from tests.support.polling import eventually
from tests.support.system import Json

pytestmark = [pytest.mark.installs, pytest.mark.timeout(1800)]

_TEXT = b"The lighthouse keeper repaired the broken lamp before the storm."


@dataclass(frozen=True)
class Way:
    """Commands in the clone: those that install, and the one that starts everything. `tool` is installed beside it."""

    install: tuple[str, ...]
    dev: str
    tool: tuple[str, ...] = ()


WAYS = {
    "pip": Way(("{python} -m venv .venv", ".venv/bin/pip install --quiet ."), ".venv/bin/dev"),
    "poetry": Way(
        ("{tools}/poetry install --no-interaction --quiet",),
        "{tools}/poetry run dev",
        ("poetry", "poetry-plugin-pypi-mirror"),
    ),
    "uv": Way((), "{tools}/uv run --quiet dev", ("uv",)),
}


@pytest.mark.parametrize("name", WAYS)
async def test_what_was_installed_does_the_main_job(name: str, folders: Callable[[str], Path]) -> None:
    way, folder = WAYS[name], folders(name)  # without a space: the scripts that Poetry writes do not start with one
    clone, tools = folder / "clone", folder / "tools"
    _run("git", "clone", "--quiet", str(ROOT), str(clone), cwd=folder)
    if way.tool:
        _run(sys.executable, "-m", "venv", str(tools), cwd=folder)
        _run(str(tools / "bin" / "pip"), "install", "--quiet", *way.tool, cwd=folder)
    names = {"python": sys.executable, "tools": str(tools / "bin")}
    for command in way.install:
        _run(*_words(command, names), cwd=clone)
    async with _running(_words(way.dev, names), clone) as told:
        await _do_the_main_job(told["gateway_url"])


def _words(command: str, names: Mapping[str, str]) -> list[str]:
    return [word.format_map(names) for word in command.split()]


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, env=_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def _environment() -> dict[str, str]:
    """What a shell has that has just been opened, in a project of its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("QUARRY_") and name not in ("VIRTUAL_ENV", "PYTHONPATH")
    }
    return {**kept, "POETRY_VIRTUALENVS_IN_PROJECT": "true", "POETRY_VIRTUALENVS_CREATE": "true"}


@asynccontextmanager
async def _running(command: list[str], clone: Path) -> AsyncIterator[Mapping[str, str]]:
    """`dev` in the clone, and what it wrote to `dev.json`."""
    environment = {**_environment(), "QUARRY_GATEWAY_PORT": str(any_free())}
    told = clone / ".quarry" / "dev.json"
    told.unlink(missing_ok=True)
    log = clone.parent / "dev.log"
    with log.open("w") as output:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=clone, env=environment, stdout=output, stderr=output, start_new_session=True
        )

    async def up() -> bool:
        assert process.returncode is None, log.read_text()
        return "Quarry is up" in log.read_text() and told.exists()

    try:
        await eventually(up, within=600, every=0.2)
        yield json.loads(told.read_text())
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGINT)
        status = await asyncio.wait_for(process.wait(), 60)
    assert status == 0, log.read_text()


async def _do_the_main_job(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        browser = Browser(client)
        await browser.sign_in()
        body = {"name": "Coast", "description": "", "metadata": {}}
        made = await browser.change("POST", "/v1/projects", json=body)
        assert made.status_code == 201, made.text
        project = f"/v1/projects/{made.json()['id']}"
        options = {"params": {"name": "log.txt"}, "headers": {"Content-Type": "text/plain"}}
        uploaded = await browser.change("POST", f"{project}/documents", content=_TEXT, **options)
        assert uploaded.status_code == 201, uploaded.text
        document = f"{project}/documents/{uploaded.json()['id']}"

        async def indexed() -> bool:
            found: Json = (await browser.request("GET", document)).json()
            assert found["status"] != "failed", found
            return bool(found["status"] == "indexed")

        await eventually(indexed, within=60, every=0.1)
        query = {"query": "somebody fixed the light at sea", "mode": "semantic"}
        answer = await browser.change("POST", f"{project}/search", json=query)
        assert [item["text"] for item in answer.json()["items"]] == [_TEXT.decode()], answer.text
