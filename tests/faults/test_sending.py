"""What a client may believe depends on what it was told, and on what it was not."""

import uuid
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.faults.ledger import Ledger, Outcome
from tests.faults.sending import once, until_known

Step = int | type[httpx.HTTPError]
Attempt = Callable[[], Awaitable[httpx.Response]]


def answering(*steps: Step) -> Attempt:
    """An attempt that is answered with these statuses, or broken off, one after the other."""
    left = list(steps)

    async def attempt() -> httpx.Response:
        step = left.pop(0)
        if isinstance(step, int):
            return httpx.Response(step, headers={"Retry-After": "0"})
        raise step("broken")

    return attempt


@pytest.mark.parametrize(
    ("steps", "outcome", "unanswered"),
    [
        ((201,), Outcome.DONE, 0),
        ((404,), Outcome.REFUSED, 0),
        ((503,), Outcome.UNKNOWN, 1),
        ((httpx.ReadTimeout,), Outcome.UNKNOWN, 1),
        ((httpx.ConnectError, httpx.ConnectTimeout, 201), Outcome.DONE, 0),
    ],
)
async def test_a_creation_is_repeated_only_when_it_reached_nobody(
    steps: tuple[Step, ...], outcome: Outcome, unanswered: int
) -> None:
    answer = await once(answering(*steps))
    assert (answer.outcome, answer.unanswered) == (outcome, unanswered)


@pytest.mark.parametrize(
    ("steps", "outcome", "unanswered"),
    [
        ((200,), Outcome.DONE, 0),
        ((503, httpx.ReadError, 204), Outcome.DONE, 2),
        ((httpx.ConnectError, 412, 200), Outcome.DONE, 0),
        ((500, 404), Outcome.REFUSED, 1),
    ],
)
async def test_what_may_be_repeated_is_repeated_until_it_is_known(
    steps: tuple[Step, ...], outcome: Outcome, unanswered: int
) -> None:
    answer = await until_known(answering(*steps))
    assert (answer.outcome, answer.unanswered) == (outcome, unanswered)


def test_tries_without_an_answer_widen_what_may_have_happened() -> None:
    ledger, subject = Ledger(), uuid.uuid4()
    ledger.expect(subject, "projects.document.updated.v1", done=True, unanswered=2)
    ledger.expect(subject, "projects.document.updated.v1", done=False, unanswered=1)
    bounds = ledger.events[subject, "projects.document.updated.v1"]
    assert (bounds.least, bounds.most) == (1, 4)
