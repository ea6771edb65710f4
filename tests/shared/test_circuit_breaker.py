"""The circuit breaker, with a clock of its own."""

import pytest

from shared.circuit_breaker import Breaker, State
from shared.errors import Unavailable


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _opened(clock: Clock, **options: float) -> Breaker:
    breaker = Breaker("x", threshold=2, clock=clock, **options)
    for _ in range(2):
        with breaker.call() as call:
            call.failed()
    assert breaker.state is State.OPEN
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker("x", threshold=2)
    for outcome in ("failed", "succeeded", "failed", "succeeded"):
        with breaker.call() as call:
            getattr(call, outcome)()
    assert breaker.state is State.CLOSED


def test_while_open_everybody_is_told_when_to_come_back() -> None:
    clock = Clock()
    breaker = _opened(clock)
    clock.now = 0.4
    with pytest.raises(Unavailable) as refused, breaker.call():
        pass
    assert refused.value.retry_after == pytest.approx(0.6)


def test_exactly_one_probe_passes_when_the_pause_is_over() -> None:
    clock = Clock()
    breaker = _opened(clock)
    clock.now = 1
    with breaker.call() as probe:
        for _ in range(10):
            with pytest.raises(Unavailable), breaker.call():
                pass
        probe.succeeded()
    assert breaker.state is State.CLOSED
    with breaker.call(), breaker.call():
        pass


def test_a_failed_probe_opens_it_for_longer_up_to_the_most() -> None:
    clock = Clock()
    breaker = _opened(clock, first_pause=1, most_pause=3)
    for pause in (1, 2, 3, 3):
        clock.now += pause - 0.01
        with pytest.raises(Unavailable), breaker.call():
            pass
        clock.now += 0.01
        with breaker.call() as probe:
            probe.failed()
    clock.now += 3
    with breaker.call() as probe:
        probe.succeeded()
    breaker = _opened(clock)
    clock.now += 1
    assert breaker.state is State.HALF_OPEN


def test_an_abandoned_probe_gives_its_place_to_the_next() -> None:
    clock = Clock()
    breaker = _opened(clock)
    clock.now = 1
    with pytest.raises(KeyError), breaker.call():
        raise KeyError
    with breaker.call() as probe:
        probe.succeeded()
    assert breaker.state is State.CLOSED


def test_a_probe_that_takes_too_long_does_not_keep_the_others_out() -> None:
    clock = Clock()
    breaker = _opened(clock, probe_seconds=5)
    clock.now = 1
    with breaker.call() as slow:
        clock.now = 6
        with breaker.call() as second:
            slow.failed()  # of the past: ignored
            second.succeeded()
    assert breaker.state is State.CLOSED


def test_what_was_admitted_before_it_opened_does_not_count_any_more() -> None:
    clock = Clock()
    breaker = Breaker("x", threshold=1, clock=clock)
    with breaker.call() as early, breaker.call() as other:
        other.failed()
        assert breaker.state is State.OPEN
        early.succeeded()
        assert breaker.state is State.OPEN
