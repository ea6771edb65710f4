"""Requests under way, by principal: they end with the credential they were admitted with, not after it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.gateway.admission.token_cache import Exchange
from shared.auth import Principal


@dataclass(eq=False, slots=True)
class _Call:
    principal: Principal
    end: Callable[[], None]


class ActiveRequests:
    """The calls of this process that were admitted with a credential."""

    def __init__(self) -> None:
        self._calls: set[_Call] = set()

    def __len__(self) -> int:
        return len(self._calls)

    @contextmanager
    def under_way(self, exchange: Exchange | None, end: Callable[[], None]) -> Iterator[None]:
        """Call `end` when the credential is revoked or expires within the block; `end` decides what can still end."""
        if exchange is None:
            yield
            return
        call = _Call(exchange.principal, end)
        timer = None
        if exchange.credential_until is not None:
            timer = asyncio.get_running_loop().call_at(exchange.credential_until, end)
        self._calls.add(call)
        try:
            yield
        finally:
            self._calls.discard(call)
            if timer is not None:
                timer.cancel()

    def end(self, concerns: Callable[[Principal], bool]) -> None:
        """End the calls of the principals that `concerns` names."""
        for call in list(self._calls):
            if concerns(call.principal):
                call.end()
