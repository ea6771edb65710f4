"""Deadlines of a proxied request: how long the gateway waits for the client and for the service.

    flow      the client's body      the response to begin  the response to go on  the client to read
    SHORT     a least rate, and one deadline over all of it, from the first byte to the last
    TRANSFER  idle, and a least rate  deadline              idle                   idle
    EVENTS    a least rate            deadline              heartbeats             idle

An event stream carries heartbeats when there are no events. One that falls silent has lost its other end: it is closed,
and the client resumes it elsewhere.
A client that sends more slowly than the least rate is disconnected. Each byte extends its deadline, to at most `idle`
from now, so only its recent rate counts; the time the service takes to accept the bytes is not the client's. An upload
has a final deadline as well, however fast it is.
"""

import asyncio
from collections.abc import Callable

from services.gateway.errors import BodyTimeout, ResponseCutOff, UpstreamTimeout
from services.gateway.proxy.cancel_scope import CancelScope
from services.gateway.routes import Flow
from services.gateway.settings import GatewaySettings


class Deadlines:
    """Sets the deadline of one request's cancel scope as it goes from phase to phase."""

    def __init__(
        self,
        cancel_scope: CancelScope,
        flow: Flow,
        settings: GatewaySettings,
        *,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._cancel_scope = cancel_scope
        self._flow = flow
        self._deadline = settings.deadline_seconds
        self._idle = settings.idle_seconds
        self._stream_idle = settings.stream_idle_seconds
        self._rate = settings.slowest_bytes_per_second
        self._upload_seconds = settings.upload_seconds
        self._now = now or asyncio.get_running_loop().time
        self._started = self._now()
        # Seconds the client may be waited for: what it has saved, at most `_most_credit`, less what it has used.
        self._most_credit = self._idle if flow is Flow.TRANSFER else self._deadline
        self._credit = self._idle if flow is Flow.TRANSFER else settings.body_seconds
        self._received = 0
        self._waiting_since: float | None = None

    def left(self) -> float:
        """Seconds of the deadline that are left; the whole of it where it has not begun."""
        return self._started + self._deadline - self._now() if self._flow is Flow.SHORT else self._deadline

    def client_sends(self, received: int) -> None:
        """Wait for more of the body, of which `received` bytes have come."""
        now = self._now()
        self._waited(now)
        earned = (received - self._received) / self._rate if self._rate else float("inf")
        self._credit = min(self._most_credit, self._credit + earned)
        self._received, self._waiting_since = received, now
        left = self._started + self._upload_seconds - now if self._flow is Flow.TRANSFER else self.left()
        self._cancel_scope.by(max(0.0, min(self._credit, left)), BodyTimeout())

    def _waited(self, now: float) -> None:
        if self._waiting_since is not None:
            self._credit -= now - self._waiting_since
            self._waiting_since = None

    def upstream_reads(self) -> None:
        """Wait for the service to take what was sent."""
        self._waited(self._now())
        self._cancel_scope.by(self.left() if self._flow is Flow.SHORT else self._idle, UpstreamTimeout())

    def upstream_begins(self) -> None:
        self._cancel_scope.by(self.left(), UpstreamTimeout())

    def upstream_goes_on(self) -> None:
        if self._flow is Flow.EVENTS:
            self._cancel_scope.by(self._stream_idle, ResponseCutOff("silent"))
        elif self._flow is Flow.TRANSFER:
            self._cancel_scope.by(self._idle, ResponseCutOff())

    def client_reads(self) -> None:
        if self._flow is not Flow.SHORT:
            self._cancel_scope.by(self._idle, ResponseCutOff())
