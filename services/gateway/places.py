"""Load shedding: how much may be under way at once. Past that, refusing early is kinder than queueing."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from services.gateway.routes import Flow
from services.gateway.settings import GatewaySettings
from services.gateway.token_cache import Exchange
from services.gateway.upstreams import Upstream
from shared.errors import RateLimited, Unavailable


class TooManyTransfers(RateLimited):
    code = "too_many_transfers"
    detail = "Too many uploads and downloads of this tenant are under way."


class Places:
    """Counts what is under way in this process, per service and, for transfers, per tenant. `streams` is the number of
    open event streams, which take no place."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._most = settings.in_flight
        self._most_transfers = settings.transfers_per_tenant
        self._transfers: dict[uuid.UUID, int] = {}
        self.streams = 0

    @contextmanager
    def take(self, upstream: Upstream, flow: Flow, exchange: Exchange | None) -> Iterator[None]:
        """A place for the time of the block.

        Raises:
            Unavailable: the service has all the work it can take.
            TooManyTransfers: one tenant would take the places of all.
        """
        if flow is Flow.EVENTS:
            self.streams += 1
            try:
                yield
            finally:
                self.streams -= 1
            return
        if upstream.in_flight >= self._most:
            raise Unavailable(f"The {upstream.name} service is busy.", retry_after=1)
        tenant_id = exchange.principal.tenant_id if exchange and flow is Flow.TRANSFER else None
        upstream.in_flight += 1
        try:
            with self._transfer(tenant_id):
                yield
        finally:
            upstream.in_flight -= 1

    @contextmanager
    def _transfer(self, tenant_id: uuid.UUID | None) -> Iterator[None]:
        if tenant_id is None:
            yield
            return
        running = self._transfers.get(tenant_id, 0)
        if running >= self._most_transfers:
            raise TooManyTransfers(retry_after=1)
        self._transfers[tenant_id] = running + 1
        try:
            yield
        finally:
            self._transfers[tenant_id] -= 1
            if not self._transfers[tenant_id]:
                del self._transfers[tenant_id]
