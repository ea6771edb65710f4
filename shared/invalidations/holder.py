"""The holder's side: a lease from one owner, kept alive by long polls, under which copies may be used.

Guarantees: while `current` is true, every invalidation whose request got its response has been passed to `apply`. A
lease counts from the moment its renewal was sent, never from the response to it.
Fails by: `current` turning false; what was missed meanwhile is applied before it is true again.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson

from shared.auth import ServiceTokens
from shared.errors import Unavailable
from shared.invalidations import LEASE_SECONDS, PATH, POLL_SECONDS
from shared.resilience import Backoff
from shared.service_permissions import Audience
from shared.telemetry import get_logger

# Well within the lease, so that a poll that got lost is repeated before it ends.
_ATTEMPT_SECONDS: Final = POLL_SECONDS + 0.4
# After longer than this the owner may have pruned what was missed.
_FORGET_SECONDS: Final = 3600.0

_log = get_logger(__name__)

Apply = Callable[[Sequence[bytes]], Awaitable[None]]
"""Makes copies true again after events, each an envelope in JSON; raises what keeps the lease from being renewed."""


class RenewalRefused(RuntimeError):
    """The owner does not give this service a lease."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Where a holder gets its lease. `consumer` is the holder's own service."""

    owner: Audience
    url: str
    consumer: str
    durable: bool


class Holder:
    """One process's lease. Made in the lifespan; `run` must be running."""

    def __init__(self, ownership: Ownership, tokens: ServiceTokens, client: aiohttp.ClientSession) -> None:
        self._ownership = ownership
        self._tokens = tokens
        self._client = client
        self._id = uuid.uuid4()
        self._acknowledged: int | None = None
        self._calm = False
        self._until = float("-inf")
        self._renewed = asyncio.Event()
        self._now = time.monotonic

    @property
    def current(self) -> bool:
        """Whether copies may be used now."""
        return self._now() < self._until

    def check(self) -> None:
        """Require that copies may be used now.

        Raises:
            Unavailable: the owner has not responded lately.
        """
        if not self.current:
            raise Unavailable(f"The {self._ownership.owner} service cannot be reached.", retry_after=1)

    async def wait(self, seconds: float) -> None:
        """Wait until copies may be used, at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.current:
                    await self._renewed.wait()

    async def run(self, apply: Apply, forget: Callable[[], None] = lambda: None) -> None:
        """Keep the lease until cancelled; then give it back.

        Args:
            forget: drops everything remembered: at the start, and when what was missed is no longer available.
        """
        backoff = Backoff(first=0.1, most=1.0)
        try:
            while True:
                try:
                    await self._renew(apply, forget)
                except (aiohttp.ClientError, OSError, ValueError, KeyError, RenewalRefused, Unavailable) as error:
                    self._calm = False
                    delay = backoff.next()
                    if backoff.worth_telling:
                        # Services start side by side: that the owner is not up yet is no trouble so far.
                        starting = self._acknowledged is None and backoff.attempts == 1
                        tell = _log.info if starting else _log.warning
                        tell("lease_not_renewed", owner=self._ownership.owner, reason=str(error)[:200])
                    await asyncio.sleep(delay)
                else:
                    self._calm = True
                    backoff.reset()
        finally:
            self._until = float("-inf")
            with suppress(aiohttp.ClientError, OSError, RenewalRefused, Unavailable):
                await self._ask("release", {})

    async def _renew(self, apply: Apply, forget: Callable[[], None]) -> None:
        sent = self._now()
        if sent > self._until + _FORGET_SECONDS and self._until > 0:
            self._acknowledged, self._id = None, uuid.uuid4()
        # Without a lease there is no time to wait for new entries.
        changes = await self._ask("lease", {"acknowledged": self._acknowledged, "wait": self._calm and self.current})
        if changes["forgotten"]:
            forget()
        if entries := changes["entries"]:
            await apply([entry.encode() for entry in entries])
        self._acknowledged = changes["position"]
        if not changes["more"]:
            self._until = sent + LEASE_SECONDS
            renewed, self._renewed = self._renewed, asyncio.Event()
            renewed.set()

    async def _ask(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        ownership = self._ownership
        token = await self._tokens.token(ownership.owner, None)
        async with (
            asyncio.timeout(_ATTEMPT_SECONDS),
            self._client.post(
                f"{ownership.url.rstrip('/')}{PATH}/{verb}",
                json={"holder": str(self._id), "durable": ownership.durable, **body},
                headers={"Authorization": f"Bearer {token}"},
            ) as response,
        ):
            if response.status != 200:
                raise RenewalRefused(f"status {response.status}")
            answer: dict[str, Any] = orjson.loads(await response.read())
            return answer
