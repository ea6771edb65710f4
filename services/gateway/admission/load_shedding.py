"""How much may be under way at once in this process: for each service, and within that for each holder.

| what | bounded by | when there is none |
| --- | --- | --- |
| bodies being received, and bytes that are kept | holder, in all; those without a credential apart | waits, 429, 503 |
| short requests to a service | tenant, in all; those without a credential apart, by address | waits in turn, 429, 503 |
| uploads and downloads | tenant, in all | 429, 503 |
| event streams | tenant, in all | 429, 503 |
| all but streams, waiting ones too | service | 503 |

A body is received before a place at a service is taken, so that a slow client occupies only its own share. Only
transfers are passed on as they arrive, on connections of their own. The gateway's own requests to identity use a third
set of connections (`Upstream.own`), with limits of its own (`services.gateway.admission.gate`).
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from services.gateway.admission.concurrency_limits import Bounds, ConcurrencyLimit, Memory
from services.gateway.admission.token_cache import Exchange
from services.gateway.routes import Flow
from services.gateway.settings import GatewaySettings
from services.gateway.upstreams.upstream import POOL_SECONDS, Upstream
from shared.errors import RateLimited, Unavailable
from shared.topology import Backend

# The part of the bodies, and of the memory for them, for requests without a credential; one address may have a quarter
# of it. They are there for signing in, which has next to no body.
_OF_STRANGERS: Final = 1 / 8


class TooManyTransfers(RateLimited):
    code = "too_many_transfers"
    detail = "This tenant has too many uploads and downloads in progress; wait for some to finish."


class TooManyStreams(RateLimited):
    code = "too_many_streams"
    detail = "This tenant has too many open event streams; close some first."


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose share a request counts towards: its tenant, a user outside any tenant, or an address without credential."""

    name: str
    verified: bool


def holder_of(exchange: Exchange | None, address: str) -> Holder:
    if exchange is None:
        return Holder(f"address {address}", verified=False)
    principal = exchange.principal
    if principal.tenant_id is not None:
        return Holder(f"tenant {principal.tenant_id}", verified=True)
    return Holder(f"user {principal.user_id or principal.subject}", verified=True)


class _Service:
    """The places at one service."""

    def __init__(self, upstream: Upstream, settings: GatewaySettings) -> None:
        def replicas() -> int:
            return len(upstream.replicas.known)

        busy = f"The {upstream.name} service is"
        # A waiting request may wait for those before it, which wait for a replica.
        seconds = settings.retry_seconds + POOL_SECONDS
        waiting, in_all = settings.waiting_per_tenant, settings.most_waiting
        self.short = ConcurrencyLimit(
            Bounds(settings.connections, settings.short_per_tenant, waiting, in_all, seconds), busy, times=replicas
        )
        self.anonymous = ConcurrencyLimit(
            Bounds(settings.anonymous_connections, settings.short_per_address, waiting, in_all, seconds), busy
        )
        self.transfers = ConcurrencyLimit(
            Bounds(settings.transfer_connections, settings.transfers_per_tenant), busy, refusal=TooManyTransfers
        )
        self.streams = ConcurrencyLimit(
            Bounds(settings.stream_connections, settings.streams_per_tenant), busy, refusal=TooManyStreams
        )

    def shares(self, flow: Flow, holder: Holder) -> ConcurrencyLimit:
        if flow is Flow.SHORT:
            return self.short if holder.verified else self.anonymous
        return self.transfers if flow is Flow.TRANSFER else self.streams


def _bodies(settings: GatewaySettings, most: int, share: int) -> ConcurrencyLimit:
    waiting, seconds = settings.waiting_per_tenant, settings.body_seconds
    return ConcurrencyLimit(Bounds(most, share, waiting, settings.most_waiting, seconds), "The gateway is")


class LoadShedder:
    """Counts what is under way in this process. `streams` is the number of open event streams."""

    def __init__(self, settings: GatewaySettings, upstreams: Mapping[Backend, Upstream]) -> None:
        self._most = settings.in_flight
        self._services = {name: _Service(upstream, settings) for name, upstream in upstreams.items()}
        bodies, memory = int(settings.bodies * _OF_STRANGERS), int(settings.body_memory_bytes * _OF_STRANGERS)
        self.bodies = _bodies(settings, settings.bodies - bodies, settings.bodies_per_tenant)
        self.anonymous_bodies = _bodies(settings, max(1, bodies), max(1, bodies // 4))
        self.memory = Memory(most=settings.body_memory_bytes - memory, share=settings.body_memory_bytes // 4)
        self.anonymous_memory = Memory(most=memory, share=memory // 4)
        self.streams = 0

    def for_bodies(self, holder: Holder) -> tuple[ConcurrencyLimit, Memory]:
        """The limits on a body that is received before it is sent to a service: its place, and its bytes."""
        return (self.bodies, self.memory) if holder.verified else (self.anonymous_bodies, self.anonymous_memory)

    @asynccontextmanager
    async def take(self, upstream: Upstream, flow: Flow, holder: Holder) -> AsyncIterator[None]:
        """Hold a place at a service for the length of the block.

        Raises:
            Unavailable: the service has all the work it can take.
            RateLimited: the holder has, or waits for, all the places it may.
        """
        async with AsyncExitStack() as stack:
            if flow is not Flow.EVENTS:
                if upstream.in_flight >= self._most:
                    raise Unavailable(f"The {upstream.name} service is busy.", retry_after=1)
                upstream.in_flight += 1
                stack.callback(self._left, upstream)
            await stack.enter_async_context(self._services[upstream.name].shares(flow, holder).take(holder.name))
            if flow is Flow.EVENTS:
                self.streams += 1
                stack.callback(self._closed)
            yield

    def _left(self, upstream: Upstream) -> None:
        upstream.in_flight -= 1

    def _closed(self) -> None:
        self.streams -= 1
