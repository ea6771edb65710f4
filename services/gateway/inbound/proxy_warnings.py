"""Warns the operator that a proxy may be missing from the trusted ones: once for each peer, and for a few peers
only."""

from typing import Final

from starlette.types import Scope

from services.gateway.inbound.request_validation import ClientRequest, Network, is_trusted
from shared.telemetry import get_logger

# Any client can send the header: such clients must not fill the log.
MOST_PEERS: Final = 8

_log = get_logger(__name__)


class UntrustedProxies:
    """Looks at requests that say whom they were forwarded for. Made in the lifespan."""

    def __init__(self, trusted_proxies: tuple[Network, ...]) -> None:
        self._trusted = trusted_proxies
        self._told: set[str] = set()

    def note(self, scope: Scope, request: ClientRequest) -> None:
        if len(self._told) >= MOST_PEERS or request.header(b"x-forwarded-for") is None:
            return
        client = scope.get("client")
        peer = client[0] if client else ""
        if peer in self._told or is_trusted(peer, self._trusted):
            return
        self._told.add(peer)
        _log.warning(
            "forwarded_for_not_believed",
            peer=peer,
            hint="if it is your proxy, list it in QUARRY_GATEWAY_TRUSTED_PROXIES; until then its clients count as one",
        )
