"""Sending a command: repeating what may be repeated, and knowing what is not known.

A 5xx and a broken connection say nothing of the effect. A connection that was refused says there was none.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import httpx

from tests.faults.ledger import Outcome

TIMEOUT_SECONDS: Final = 20.0
_PAUSE_SECONDS: Final = 0.25
_BOUNDARY: Final = 500


@dataclass(slots=True)
class Answer:
    """The last answer, None without any, and how many tries before it may have had an effect unseen."""

    response: httpx.Response | None
    unanswered: int

    @property
    def status(self) -> int | None:
        return None if self.response is None else self.response.status_code

    @property
    def outcome(self) -> Outcome:
        if self.status is None or self.status >= _BOUNDARY:
            return Outcome.UNKNOWN
        return Outcome.DONE if self.status < 400 else Outcome.REFUSED


Attempt = Callable[[], Awaitable[httpx.Response]]


async def once(attempt: Attempt) -> Answer:
    """What must not be repeated is repeated only when it cannot have reached anybody."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TIMEOUT_SECONDS
    while True:
        try:
            answer = Answer(await attempt(), 0)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if loop.time() > deadline:
                return Answer(None, 0)
            await asyncio.sleep(_PAUSE_SECONDS)
            continue
        except httpx.HTTPError:
            answer = Answer(None, 1)
        if answer.outcome is Outcome.UNKNOWN:
            answer.unanswered = 1
            await asyncio.sleep(_pause_after(answer.response))
        return answer


async def until_known(attempt: Attempt) -> Answer:
    """What may be repeated is, until an answer says what became of it; a stale `If-Match` is read anew by `attempt`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TIMEOUT_SECONDS
    unanswered = 0
    while True:
        response = None
        try:
            response = await attempt()
        except (httpx.ConnectError, httpx.ConnectTimeout):
            pass
        except httpx.HTTPError:
            unanswered += 1
        else:
            if response.status_code < _BOUNDARY and response.status_code != 412:
                return Answer(response, unanswered)
            unanswered += response.status_code >= _BOUNDARY
        if loop.time() > deadline:
            return Answer(response, unanswered)
        await asyncio.sleep(_pause_after(response))


def _pause_after(response: httpx.Response | None) -> float:
    """A client does as it is asked, within reason."""
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    return min(2.0, float(asked)) if asked.isdecimal() else _PAUSE_SECONDS
