"""The routing table: which service serves a path, who may call it, and how its bytes flow.

A path that is not here does not exist for clients; `/internal` is not routed. Patterns are matched against the whole
decoded path, after `services.gateway.inbound.request_validation` has refused every path that two parsers could read
differently.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Final

from shared.topology import Backend


class Access(StrEnum):
    CREDENTIAL = "credential"
    ANONYMOUS = "anonymous"  # identity's own sign-in pages: no internal token, cookies in both directions
    SIGN_IN = "sign_in"  # as anonymous, and refused when attempts cannot be counted


class Flow(StrEnum):
    SHORT = "short"  # small bodies and one deadline over everything
    TRANSFER = "transfer"  # as long as bytes flow
    EVENTS = "events"  # an open end; silence is normal


@dataclass(frozen=True, slots=True)
class Route:
    pattern: re.Pattern[str]
    upstream: Backend
    access: Access = Access.CREDENTIAL
    flow: Flow = Flow.SHORT
    methods: frozenset[str] = frozenset()  # empty: all
    # False: for programs. A browser's session does not count, and only pages of listed origins may call.
    sessions: bool = True

    def matches(self, method: str, path: str) -> bool:
        return (not self.methods or method in self.methods) and self.pattern.fullmatch(path) is not None

    def template(self, path: str) -> str:
        """`path` as metrics show it: only words of the table, nothing that a client chose."""
        found = self.pattern.fullmatch(path)
        noun = found.groupdict().get("noun") if found else None
        return _template(self.pattern.pattern, noun)


METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def _route(
    pattern: str,
    upstream: Backend,
    *,
    access: Access = Access.CREDENTIAL,
    flow: Flow = Flow.SHORT,
    methods: str = "",
    sessions: bool = True,
) -> Route:
    return Route(re.compile(pattern), upstream, access, flow, frozenset(methods.split()), sessions)


_PROJECT: Final = r"/v1/projects/[^/]+"
_DOCUMENTS: Final = _PROJECT + r"/documents"

# A resumable upload, at whose path another method may stand in a header.
UPLOAD: Final = re.compile(_PROJECT + r"/uploads/[^/]+")

# The first match counts: longer before shorter.
ROUTES: Final = (
    _route(_DOCUMENTS + r"/?", "projects", flow=Flow.TRANSFER, methods="POST"),
    _route(_DOCUMENTS + r"/[^/]+/versions/?", "projects", flow=Flow.TRANSFER, methods="POST"),
    _route(_DOCUMENTS + r"/[^/]+/content/?", "projects", flow=Flow.TRANSFER),
    _route(_DOCUMENTS + r"/[^/]+/(?P<noun>chunks|similar)/?", "indexing"),
    _route(_PROJECT + r"/uploads(/.*)?", "projects", flow=Flow.TRANSFER, methods="POST PATCH"),
    _route(_PROJECT + r"/uploads(/.*)?", "projects"),
    _route(_PROJECT + r"/ask/?", "indexing", flow=Flow.EVENTS),
    _route(_PROJECT + r"/runs/?", "indexing", flow=Flow.EVENTS, methods="POST"),
    _route(_PROJECT + r"/runs/[^/]+/events/?", "notifier", flow=Flow.EVENTS),
    _route(_PROJECT + r"/(?P<noun>search|jobs|progress|dead-letters|reindex|runs)(/.*)?", "indexing"),
    _route(r"/v1/agents(/.*)?", "indexing"),
    _route(_PROJECT + r"/events/?", "notifier", flow=Flow.EVENTS),
    _route(r"/v1/projects(/.*)?", "projects"),
    _route(r"/v1/exports/[^/]+/content/?", "projects", flow=Flow.TRANSFER),
    _route(r"/v1/exports(/.*)?", "projects"),
    _route(r"/v1/events/?", "notifier", flow=Flow.EVENTS),
    _route(r"/mcp/?", "indexing", sessions=False),
    _route(r"/v1/(?P<noun>notifications|webhooks)(/.*)?", "notifier"),
    _route(r"/v1/(?P<noun>me|sessions|tenants|members|invitations|api-keys|audit)(/.*)?", "identity"),
    _route(r"/auth/(?P<noun>login|callback)(/.*)?", "identity", access=Access.SIGN_IN),
    _route(r"/auth/.+", "identity", access=Access.ANONYMOUS),
)


@cache
def _template(pattern: str, noun: str | None) -> str:
    """There are as many as the table has nouns: `noun` is one of the alternatives in `pattern`."""
    shown = re.sub(r"\(\?P<noun>[^)]*\)", noun or "", pattern)
    return shown.replace("(/.*)?", "").replace("/?", "").replace("[^/]+", "{id}").replace("/.+", "/{page}")


def match(method: str, path: str) -> Route | None:
    """The route of a request, or None when there is none."""
    for route in ROUTES:
        if route.matches(method, path):
            return route
    return None
