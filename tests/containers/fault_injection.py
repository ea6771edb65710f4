"""What is done to containers, each as it happens to them in earnest.

Killed from outside of the engine: what `docker kill` ends counts as stopped on purpose, and no restart policy applies.
Cut off by leaving every network: no reset, no refusal, packets vanish, and the name leads there no more.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.containers.compose import Compose, Container, docker
from tests.support.polling import eventually

BACK_SECONDS = 90.0


def kill(container: Container) -> None:
    """`kill -9` to its init, and with it to everything in it; the engine starts it again."""
    os.kill(container.pid, signal.SIGKILL)


@asynccontextmanager
async def cut_off(container: Container) -> AsyncIterator[None]:
    """Without any network inside the block."""
    for place in container.networks:
        await docker("network", "disconnect", place.network, container.id)
    try:
        yield
    finally:
        # Shielded: whoever is cancelled here must not leave it cut off.
        await asyncio.shield(_connect(container))


async def until_ready(compose: Compose, *, within: float = BACK_SECONDS) -> None:
    """Until every container of the project runs and is healthy; the one-shot ones have ended well."""

    async def ready() -> bool:
        return all(
            item.ready or (item.service == "migrate" and item.status == "exited") for item in await compose.containers()
        )

    await eventually(ready, within=within, every=0.5)


async def _connect(container: Container) -> None:
    for place in container.networks:
        aliases = [part for alias in place.aliases for part in ("--alias", alias)]
        await docker("network", "connect", *aliases, place.network, container.id)
