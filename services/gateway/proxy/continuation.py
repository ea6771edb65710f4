"""A response that another service goes on with, inside the same response to the client.

Indexing starts a run and names, in `CONTINUES`, the address of its events, as a server behind nginx does with
`X-Accel-Redirect`. The gateway then asks for those in the client's own name: the service there checks access as always.

Guarantees: only indexing may name an address, only in response to a request for a stream, and only that of the events
of a run in the project of that request. The header never passes to a client, and none that a client sends passes
inwards (`services.gateway.inbound.headers`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.gateway import routes
from services.gateway.errors import BadUpstreamResponse
from services.gateway.inbound.request_validation import ClientRequest
from services.gateway.routes import Flow, Route
from shared.response_continuation import CONTINUES

_NAME: Final = CONTINUES.lower().encode("ascii")
_KEPT: Final = frozenset({b"quarry-run-id"})
_ID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_EVENTS: Final = re.compile(rf"(?P<project>/v1/projects/{_ID})/runs/{_ID}/events\Z")

RawHeaders = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Continuation:
    """What goes on: the request to send, its route, and what the client gets of the first response."""

    request: ClientRequest
    route: Route
    status: int
    headers: tuple[tuple[bytes, bytes], ...]


def continuation_of(request: ClientRequest, route: Route, status: int, headers: RawHeaders) -> Continuation | None:
    """Where the response goes on, or None for one that is complete in itself.

    Raises:
        BadUpstreamResponse: a service names an address that it may not name.
    """
    named = [value for name, value in headers if name.lower() == _NAME]
    if not named:
        return None
    path = named[0].decode("latin-1")
    where, following = _EVENTS.match(path), routes.match("GET", path)
    allowed = (route.upstream, route.flow, request.method, len(named)) == ("indexing", Flow.EVENTS, "POST", 1)
    if not allowed or where is None or following is None or following.flow is not Flow.EVENTS:
        raise BadUpstreamResponse
    if not request.path.lower().startswith(f"{where['project']}/"):
        raise BadUpstreamResponse
    sent = replace(
        request,
        method="GET",
        raw_path=path,
        path=path,
        query="",
        headers=tuple((name, value) for name, value in request.headers if name == b"user-agent"),
        has_body=False,
        length=None,
    )
    kept = tuple((name.lower(), value) for name, value in headers if name.lower() in _KEPT)
    return Continuation(sent, following, status, kept)
