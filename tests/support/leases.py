"""The owner of what a service under test remembers: it gives leases and tells of events, as `shared.invalidations`."""

import asyncio
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from shared.auth import ServiceTokens
from shared.events.envelope import Envelope, Event
from shared.invalidations import LEASE_SECONDS, PATH, POLL_SECONDS
from shared.invalidations.holder import Holder, Ownership
from shared.invalidations.projected_copies import Projection
from tests.support.polling import eventually


@dataclass
class LeasesDouble:
    """One log for all holders. `refusing` answers 503; `holders` maps each to the position it has acknowledged."""

    entries: list[str] = field(default_factory=list)
    holders: dict[str, int] = field(default_factory=dict)
    refusing: bool = False
    _heard: dict[str, float] = field(default_factory=dict)
    _told: asyncio.Event = field(default_factory=asyncio.Event)

    def install(self, app: FastAPI) -> None:
        @app.post(f"{PATH}/{{verb}}")
        async def ask(verb: str, request: Request) -> Response:
            if self.refusing:
                return Response(status_code=503)
            return JSONResponse(await self.answer(verb, await request.json()))

    async def answer(self, verb: str, asked: dict[str, Any]) -> dict[str, Any]:
        """The JSON answer to `lease` or `release`."""
        if verb == "release":
            self.holders.pop(asked["holder"], None)
            return {"released": True}
        known = asked["acknowledged"]
        self.holders[asked["holder"]] = len(self.entries) if known is None else known
        self._heard[asked["holder"]] = time.monotonic()
        if known is None:
            return self._changes(len(self.entries), forgotten=True)
        if known == len(self.entries):
            told = self._told
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await told.wait()
        return self._changes(known, forgotten=False)

    async def tell(self, *entries: bytes | Event, tenant_id: uuid.UUID | None = None) -> None:
        """Return once every holder has acknowledged, or its lease has run out."""
        holders = set(self.holders)
        self.entries += [
            (entry if isinstance(entry, bytes) else envelope(entry, tenant_id or uuid.uuid4())).decode()
            for entry in entries
        ]
        position = len(self.entries)
        told, self._told = self._told, asyncio.Event()
        told.set()

        async def acknowledged() -> bool:
            living = {name for name in holders if time.monotonic() - self._heard[name] < LEASE_SECONDS}
            return all(self.holders.get(name, position) >= position for name in living)

        await eventually(acknowledged, within=10)

    def reset(self) -> None:
        """Stop refusing; holders keep their leases."""
        self.refusing = False

    def _changes(self, after: int, *, forgotten: bool) -> dict[str, Any]:
        return {
            "position": len(self.entries),
            "entries": self.entries[after:],
            "more": False,
            "forgotten": forgotten,
        }


class _Held(Holder):
    """A lease that does not end."""

    @property
    def current(self) -> bool:
        return True


def held() -> Projection:
    """A projection that is told of everything."""
    tokens, client = ServiceTokens("test", "", "", cast(aiohttp.ClientSession, None)), cast(aiohttp.ClientSession, None)
    return Projection(_Held(Ownership("projects", "", "test", durable=True), tokens, client))


def envelope(event: Event, tenant_id: uuid.UUID, *, sequence: int = 1) -> bytes:
    """The event as its producer would tell it."""
    return Envelope.wrap(
        event,
        event_id=uuid.uuid4(),
        tenant_id=tenant_id,
        sequence=sequence,
        traceparent=None,
        correlation_id=None,
        causation_id=None,
    ).to_json()
