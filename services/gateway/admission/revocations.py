"""Applies identity's revocations: cached tokens are dropped and requests under way end.

Identity waits for this process to acknowledge a revocation (`shared.invalidations.holder`) before it responds to the
request that caused it. An event that cannot be read may be a revocation, so it drops the whole cache, as a start does.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from services.gateway.admission.revocable_requests import ActiveRequests
from services.gateway.admission.token_cache import TokenCache
from shared.auth import Principal
from shared.events.envelope import Envelope, Undecodable
from shared.events.identity import ApiKeyRevoked, MembershipChanged, SessionRevoked, TenantDeleted
from shared.invalidations.holder import Holder
from shared.telemetry import get_logger

# A gateway cut off from identity for so long may have missed that a stream lost its access.
ALONE_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 1.0
_log = get_logger(__name__)


class Revocations:
    """Applies identity's events to what this process remembers and to what is under way."""

    def __init__(self, lease: Holder, cache: TokenCache, calls: ActiveRequests) -> None:
        self._lease = lease
        self._cache = cache
        self._calls = calls

    async def run(self) -> None:
        """Keep the lease, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lease.run(self.apply, self.forget))
            group.create_task(self._watch())

    def forget(self) -> None:
        """Drop everything: revocations may have been missed."""
        self._cache.clear()
        self._calls.end(lambda _principal: True)

    async def apply(self, entries: Sequence[bytes]) -> None:
        for entry in entries:
            self._apply(entry)

    def _apply(self, entry: bytes) -> None:
        try:
            event = Envelope.from_json(entry).payload()
        except Undecodable as error:
            _log.warning("identity_event_unreadable", reason=str(error))
            self.forget()
            return
        match event:
            case SessionRevoked():
                self._cache.revoke(event.session_id)
                self._calls.end(_of_credential(event.session_id))
            case ApiKeyRevoked():
                self._cache.revoke(event.api_key_id)
                self._calls.end(_of_credential(event.api_key_id))
            case MembershipChanged():
                self._cache.revoke(event.user_id)
                self._calls.end(_of_member(event))
            case TenantDeleted():
                self._cache.revoke(event.tenant_id)
                self._calls.end(_of_tenant(event))
            case _:
                pass  # tells of something no token depends on

    async def _watch(self) -> None:
        """End what is under way when identity has been out of reach for long."""
        clock = asyncio.get_running_loop().time
        held_at = clock()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._lease.current:
                held_at = clock()
            elif clock() - held_at > ALONE_SECONDS:
                self._calls.end(lambda _principal: True)


def _of_credential(credential_id: object) -> Callable[[Principal], bool]:
    return lambda principal: principal.credential_id == credential_id


def _of_member(event: MembershipChanged) -> Callable[[Principal], bool]:
    return lambda principal: principal.user_id == event.user_id and principal.tenant_id == event.tenant_id


def _of_tenant(event: TenantDeleted) -> Callable[[Principal], bool]:
    return lambda principal: principal.tenant_id == event.tenant_id
