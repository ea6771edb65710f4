"""How long whom is waited for while a request passes.

    flow      the client's body      the answer to begin   the answer to go on   the client to read
    SHORT     one deadline over all of it, from the first byte to the last
    TRANSFER  idle, and a least rate  deadline              idle                  idle
    EVENTS    idle, and a least rate  deadline              heartbeats            idle

An event stream is never silent for long, if with nothing to say: one that is has lost its other end, and is cut so that
the client resumes it elsewhere.
A client that sends so slowly that nobody could wait for it is cut off by the least rate: bytes buy time.
"""

import asyncio

from services.gateway.errors import AnswerCut, BodyTimeout, UpstreamTimeout
from services.gateway.lifeline import Lifeline
from services.gateway.routes import Flow
from services.gateway.settings import GatewaySettings


class Patience:
    """Sets the deadline of one request's lifeline as it goes from phase to phase."""

    def __init__(self, lifeline: Lifeline, flow: Flow, settings: GatewaySettings) -> None:
        self._lifeline = lifeline
        self._flow = flow
        self._deadline = settings.deadline_seconds
        self._idle = settings.idle_seconds
        self._stream_idle = settings.stream_idle_seconds
        self._rate = settings.slowest_bytes_per_second
        self._now = asyncio.get_running_loop().time
        self._started = self._now()

    def left(self) -> float:
        """Seconds of the deadline that are left; the whole of it where it has not begun."""
        return self._started + self._deadline - self._now() if self._flow is Flow.SHORT else self._deadline

    def client_sends(self, received: int) -> None:
        """Wait for more of the body, of which `received` bytes have come."""
        if self._flow is Flow.SHORT:
            self._lifeline.by(self.left(), BodyTimeout())
            return
        allowed = self._idle + (received / self._rate if self._rate else float("inf"))
        budget = self._started + allowed - self._now()
        self._lifeline.by(min(self._idle, budget), BodyTimeout())

    def upstream_reads(self) -> None:
        """Wait for the service to take what was sent."""
        self._lifeline.by(self.left() if self._flow is Flow.SHORT else self._idle, UpstreamTimeout())

    def upstream_begins(self) -> None:
        self._lifeline.by(self.left(), UpstreamTimeout())

    def upstream_goes_on(self) -> None:
        if self._flow is Flow.EVENTS:
            self._lifeline.by(self._stream_idle, AnswerCut("silent"))
        elif self._flow is Flow.TRANSFER:
            self._lifeline.by(self._idle, AnswerCut())

    def client_reads(self) -> None:
        if self._flow is not Flow.SHORT:
            self._lifeline.by(self._idle, AnswerCut())
