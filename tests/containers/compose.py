"""One compose project: brought up, scaled, looked into, and taken away with its volumes.

The engine runs on this machine: processes, volumes and private networks of the containers are within reach of root.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from infra.local.home import ROOT
from infra.postgres.roles import DATABASE
from tests.faults.invariants import Stores

FILES: Final = ("docker-compose.yml", "infra/docker/compose.embedded-vectors.yml")
_COMMAND_SECONDS: Final = 600.0


class ComposeError(RuntimeError):
    """A command of docker failed; says what it printed."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container's place in one network."""

    network: str
    address: str
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Container:
    """A container as it is now. `pid` is that of its first process on this machine, 0 when it does not run."""

    id: str
    service: str
    number: int
    pid: int
    status: str
    health: str
    restarts: int
    networks: tuple[Attachment, ...]

    @property
    def name(self) -> str:
        return f"{self.service}-{self.number}"

    @property
    def ready(self) -> bool:
        return self.status == "running" and self.health in ("healthy", "")


class Compose:
    """The project `name`, with its gateway on `port` of loopback and its secrets in `secrets`."""

    def __init__(self, name: str, secrets: Path, port: int, clients: AsyncExitStack) -> None:
        self.name = name
        self.secrets = secrets
        self.port = port
        self._clients = clients
        self._environment = {**os.environ, "QUARRY_SECRETS": str(secrets), "QUARRY_GATEWAY_PORT": str(port)}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def run(self, *arguments: str) -> str:
        """`docker compose` with these arguments; gives its output."""
        files = [part for file in FILES for part in ("-f", str(ROOT / file))]
        return await docker("compose", "-p", self.name, *files, *arguments, environment=self._environment)

    async def up(self, scale: Mapping[str, int] | None = None) -> None:
        """Start everything and wait until it is healthy."""
        scaled = [part for service, count in (scale or {}).items() for part in ("--scale", f"{service}={count}")]
        await self.run("up", "--detach", "--wait", "--wait-timeout", "180", *scaled)

    async def down(self) -> None:
        await self.run("down", "--volumes", "--timeout", "5")

    async def containers(self, *services: str) -> list[Container]:
        """Those of the project, or of the services named."""
        label = f"label=com.docker.compose.project={self.name}"
        ids = (await docker("ps", "--all", "--quiet", "--filter", label)).split()
        inspected = json.loads(await docker("inspect", *ids)) if ids else []
        found = [_container(item) for item in inspected]
        return sorted((item for item in found if not services or item.service in services), key=lambda item: item.name)

    async def stores(self) -> Stores:
        """The addresses as they are now: a server that was cut off may come back with another one."""
        servers = {item.service: item for item in await self.containers("postgres", "redis")}
        password = quote(self._secret("postgres_password"), safe="")
        postgres = f"postgresql://postgres:{password}@{servers['postgres'].networks[0].address}:5432/{DATABASE}"
        account, _, place = urlsplit(self._secret("operator_redis_url")).netloc.rpartition("@")
        _, _, port = place.partition(":")
        redis = urlunsplit(("redis", f"{account}@{servers['redis'].networks[0].address}:{port or 6379}", "/0", "", ""))
        volume = json.loads(await docker("volume", "inspect", f"{self.name}_blobs"))[0]
        return Stores(postgres, redis, Path(volume["Mountpoint"]))

    async def tenant(self, name: str) -> tuple[str, httpx.AsyncClient]:
        """A new tenant's id, and a client that holds an API key of its owner."""
        command = ("python", "-m", "services.identity.bootstrap", "--tenant", name)
        said = await self.run("exec", "-T", "identity", *command, "--owner-email", f"{name}@example.test")
        made = next(json.loads(line) for line in reversed(said.splitlines()) if line.startswith("{"))
        return made["tenant_id"], await self.client(made["api_key"])

    async def client(self, credential: str) -> httpx.AsyncClient:
        """A client of the gateway's published port."""
        headers = {"Authorization": f"Bearer {credential}"}
        client = httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=30, limits=httpx.Limits(max_connections=100)
        )
        return await self._clients.enter_async_context(client)

    def _secret(self, name: str) -> str:
        return (self.secrets / name).read_text(encoding="utf-8").strip()


@asynccontextmanager
async def compose_project(name: str, folder: Path, port: int) -> AsyncIterator[Compose]:
    """A project with new secrets in `folder`, not yet up; taken away with its volumes at the end."""
    secrets = folder / "secrets"
    await run("uv", "run", "--no-sync", "secrets", environment={**os.environ, "QUARRY_SECRETS": str(secrets)})
    async with AsyncExitStack() as clients:
        compose = Compose(name, secrets, port, clients)
        try:
            yield compose
        finally:
            await compose.down()


async def docker(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    return await run("docker", *arguments, environment=environment)


async def run(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a command to its end; gives what it wrote to standard output.

    Raises:
        ComposeError: it failed, or took longer than ten minutes.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_COMMAND_SECONDS):
            out, err = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if process.returncode != 0:
        tail = "\n".join(err.decode(errors="replace").splitlines()[-30:])
        raise ComposeError(f"{' '.join(command[:4])} ... ended with status {process.returncode}:\n{tail}")
    return out.decode()


def _container(item: Mapping[str, Any]) -> Container:
    labels: Mapping[str, str] = item["Config"]["Labels"]
    state = item["State"]
    networks: Mapping[str, Any] = item["NetworkSettings"]["Networks"]
    return Container(
        id=item["Id"],
        service=labels["com.docker.compose.service"],
        number=int(labels["com.docker.compose.container-number"]),
        pid=state["Pid"],
        status=state["Status"],
        health=state.get("Health", {}).get("Status", ""),
        restarts=item["RestartCount"],
        networks=tuple(_attachment(name, place) for name, place in sorted(networks.items())),
    )


def _attachment(network: str, place: Mapping[str, Any]) -> Attachment:
    aliases: Sequence[str] = place.get("Aliases") or ()
    return Attachment(network, place["IPAddress"], tuple(aliases))
