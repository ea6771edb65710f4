"""The access log's limits: how much unauthenticated and refused requests may write, by client and in all.

An admitted request with a verified credential has a line of its own: limits bound how many there are. All others, which
cost a client nothing, share `BURST` lines at once and `PER_SECOND` after that for each client, an address until the
tenant is known, and `OF_ALL_PER_SECOND` for all of them. Requests without a line are counted, and the next line of the
client is preceded by one that says how many there were, and how many of them failed (`note_failure`).
Metrics count every request.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.types import Scope

from services.gateway.inbound.request_validation import limit_key
from shared.telemetry import get_logger

PER_SECOND: Final = 5.0
BURST: Final = 20.0
OF_ALL_PER_SECOND: Final = 100.0
MOST_CLIENTS: Final = 10_000
_REFUSED: Final = frozenset({429, 503})

_log = get_logger(__name__)


@dataclass(slots=True)
class _Share:
    """Lines a client may still write; `left_out` counts those it could not, `failed` those of failures among them."""

    rate: float
    burst: float
    lines: float
    at: float
    left_out: int = 0
    failed: int = 0

    def take(self, now: float) -> bool:
        self.lines = min(self.burst, self.lines + (now - self.at) * self.rate)
        self.at = now
        if self.lines < 1:
            return False
        self.lines -= 1
        return True


class AccessLogBudget:
    """Decides for each finished request whether it has a line in the access log. Made with the application."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all = _Share(OF_ALL_PER_SECOND, OF_ALL_PER_SECOND, OF_ALL_PER_SECOND, clock())
        self._shares: OrderedDict[str, _Share] = OrderedDict()

    def is_logged(self, scope: Scope, status: int) -> bool:
        principal = scope["state"].get("principal")
        if principal is not None and status not in _REFUSED:
            return True
        client = _client(scope) if principal is None else f"tenant {principal.tenant_id or principal.user_id}"
        share, now = self._share(client), self._clock()
        if not (share.take(now) and self._all.take(now)):
            share.left_out += 1
            share.failed += "failure" in scope["state"]
            return False
        if share.left_out:
            _log.info("requests_not_logged", client=client, number=share.left_out, failed=share.failed)
            share.left_out = share.failed = 0
        return True

    def _share(self, client: str) -> _Share:
        share = self._shares.get(client)
        if share is None:
            share = self._shares[client] = _Share(PER_SECOND, BURST, BURST, self._clock())
            if len(self._shares) > MOST_CLIENTS:
                self._shares.popitem(last=False)
        self._shares.move_to_end(client)
        return share


def _client(scope: Scope) -> str:
    """The client as limits count it; the peer where the request was refused before the client was known."""
    client = scope["state"].get("client")
    if isinstance(client, str):
        return client
    peer = scope.get("client")
    return limit_key(peer[0] if peer else "")
