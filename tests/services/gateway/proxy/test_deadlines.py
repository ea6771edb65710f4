"""How long the body of a request is waited for, by a clock of the test's own."""

import pytest

from services.gateway.errors import BodyTimeout
from services.gateway.proxy.cancel_scope import CancelScope
from services.gateway.proxy.deadlines import Deadlines
from services.gateway.routes import Flow
from services.gateway.settings import GatewaySettings

KIB, MIB = 1024, 1024**2


class Sender:
    """A client that sends `received` bytes so far; every wait is checked against the deadline it is given."""

    def __init__(self, flow: Flow = Flow.TRANSFER, **settings: float) -> None:
        self.now = 0.0
        self.received = 0
        self._line = _Line()
        self._deadlines = Deadlines(self._line, flow, _settings(**settings), now=lambda: self.now)

    def sends(self, count: int, *, after: float) -> bool:
        """Whether it was waited for."""
        self._deadlines.client_sends(self.received)
        if after >= self._line.seconds:
            return False
        self.now += after
        self.received += count
        self._deadlines.upstream_reads()
        return True

    def service_takes(self, seconds: float) -> None:
        self.now += seconds


class _Line(CancelScope):
    def __init__(self) -> None:
        self.seconds = float("inf")

    def by(self, seconds: float | None, reason: Exception | None = None) -> None:
        if isinstance(reason, BodyTimeout):
            assert seconds is not None
            self.seconds = seconds


def _settings(**changed: float) -> GatewaySettings:
    values = {"idle_seconds": 30.0, "slowest_bytes_per_second": KIB, "upload_seconds": 6 * 3600.0, **changed}
    return GatewaySettings.model_construct(**values)  # type: ignore[arg-type]


def test_bytes_sent_fast_buy_no_more_than_a_moment() -> None:
    sender = Sender()
    for _ in range(511):
        assert sender.sends(MIB, after=0.01)
    assert sender.sends(1, after=29)
    assert not sender.sends(1, after=29)


@pytest.mark.parametrize("pause", [0.1, 1, 20])
def test_a_slow_link_at_the_least_rate_is_waited_for(pause: float) -> None:
    sender = Sender()
    for _ in range(int(3600 / pause)):
        assert sender.sends(int(KIB * pause) + 1, after=pause)


def test_a_slow_service_costs_its_client_nothing() -> None:
    sender = Sender()
    for _ in range(600):
        assert sender.sends(KIB, after=0.9)
        sender.service_takes(29)


def test_an_upload_ends_however_fast_it_is() -> None:
    sender = Sender(upload_seconds=600)
    while sender.sends(MIB, after=1):
        assert sender.now < 600
    assert sender.now == 599


def test_without_a_least_rate_silence_alone_ends_an_upload() -> None:
    sender = Sender(slowest_bytes_per_second=0)
    for _ in range(100):
        assert sender.sends(1, after=29)
    assert not sender.sends(1, after=30)
