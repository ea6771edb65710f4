"""A whole system that runs already, reached by nothing but its address: what a client sees, and no part to kill.

    QUARRY_TEST_SYSTEM_URL=http://127.0.0.1:8080
    QUARRY_TEST_BOOTSTRAP_COMMAND="docker compose exec -T identity python -m services.identity.bootstrap"
    QUARRY_TEST_API_KEYS=qk_...,qk_...                  instead: keys of owners, each of another tenant

The command, here with its default, runs in the project's folder with `--tenant NAME --owner-email ADDRESS` and prints
`{"tenant_id": ..., "api_key": ...}`. Tenants have new names in every run; nothing is taken away afterwards.
"""

import asyncio
import json
import os
import shlex
import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Protocol

import httpx
import pytest

from infra.local.home import ROOT

SYSTEM_URL: Final = "QUARRY_TEST_SYSTEM_URL"
BOOTSTRAP_COMMAND: Final = "QUARRY_TEST_BOOTSTRAP_COMMAND"
API_KEYS: Final = "QUARRY_TEST_API_KEYS"
_COMPOSE: Final = "docker compose exec -T identity python -m services.identity.bootstrap"
_COMMAND_SECONDS: Final = 60.0


class Product(Protocol):
    """What tests of flows ask of a system, wherever it runs."""

    async def tenant(self, name: str) -> tuple[str, httpx.AsyncClient]:
        """A new tenant's id, and a client that holds an API key of its owner."""

    async def client(self, credential: str | None = None) -> httpx.AsyncClient:
        """A client of the gateway; anonymous without a credential."""


class RemoteSystem:
    """The system at an address; `keys` are used before tenants are made."""

    def __init__(self, url: str, keys: list[str], command: str, clients: AsyncExitStack) -> None:
        self.url = url
        self._keys = deque(keys)
        self._given = bool(keys)
        self._command = shlex.split(command)
        self._clients = clients

    async def tenant(self, name: str) -> tuple[str, httpx.AsyncClient]:
        if self._given:
            return await self._next_tenant()
        unique = f"{name.replace(' ', '-')}-{uuid.uuid4().hex[:12]}"
        made = await self._made("--tenant", unique, "--owner-email", f"{unique}@example.test")
        return made["tenant_id"], await self.client(made["api_key"])

    async def client(self, credential: str | None = None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        client = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30)
        return await self._clients.enter_async_context(client)

    async def _next_tenant(self) -> tuple[str, httpx.AsyncClient]:
        assert self._keys, f"{API_KEYS} holds too few keys for these tests"
        client = await self.client(self._keys.popleft())
        answer = await client.get("/v1/me")
        assert answer.status_code == 200, f"a key of {API_KEYS} is refused: {answer.text}"
        return str(answer.json()["tenant"]["id"]), client

    async def _made(self, *arguments: str) -> dict[str, str]:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *arguments,
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_COMMAND_SECONDS):
                out, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, f"{BOOTSTRAP_COMMAND} failed:\n{errors.decode(errors='replace')}"
        made: dict[str, str] = next(json.loads(line) for line in out.decode().splitlines() if line.startswith('{"'))
        return made


def is_given() -> bool:
    """Whether the environment names a system."""
    return bool(os.environ.get(SYSTEM_URL))


@asynccontextmanager
async def remote_system() -> AsyncIterator[RemoteSystem]:
    """The system that the environment names.

    Raises:
        pytest.UsageError: it does not answer.
    """
    url = os.environ[SYSTEM_URL].rstrip("/")
    keys = [key.strip() for key in os.environ.get(API_KEYS, "").split(",") if key.strip()]
    async with AsyncExitStack() as clients:
        system = RemoteSystem(url, keys, os.environ.get(BOOTSTRAP_COMMAND) or _COMPOSE, clients)
        try:
            answer = await (await system.client()).get("/readyz")
        except httpx.HTTPError as error:
            raise pytest.UsageError(f"{SYSTEM_URL}={url}: {error!r}") from error
        if answer.status_code != 200:
            raise pytest.UsageError(f"{SYSTEM_URL}={url} is not ready: {answer.text}")
        yield system
