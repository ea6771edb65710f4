"""What identity revokes, followed live: cached tokens of it are dropped the moment the event is read.

An event that cannot be read may be a revocation, so everything is forgotten. The same at the start and after any
interruption: what was cached before the stream is followed may have been revoked unheard.
"""

from redis.asyncio import Redis

from services.gateway.token_cache import TokenCache
from shared.events.envelope import Envelope, Undecodable
from shared.events.identity import ApiKeyRevoked, MembershipChanged, SessionRevoked, TenantDeleted
from shared.following import follow
from shared.redis_clients import stream_of
from shared.telemetry import get_logger

_log = get_logger(__name__)
_KNOWN = frozenset(event.type for event in (ApiKeyRevoked, MembershipChanged, SessionRevoked, TenantDeleted))


async def follow_revocations(redis: Redis, cache: TokenCache) -> None:
    """Apply identity's events to `cache` until cancelled."""
    following = False

    def on_gap() -> None:
        nonlocal following
        following = False
        cache.clear()

    def on_read() -> None:
        nonlocal following
        if not following:
            cache.clear()
            following = True
        cache.heard()

    await follow(
        redis,
        stream_of("identity"),
        on_entry=lambda entry_id, fields: _apply(entry_id, fields, cache),
        on_gap=on_gap,
        on_read=on_read,
    )


def _apply(entry_id: bytes, fields: dict[bytes, bytes], cache: TokenCache) -> None:
    try:
        envelope = Envelope.from_json(fields.get(b"event", b""))
        event = envelope.payload() if envelope.type in _KNOWN else None
    except Undecodable as error:
        _log.warning("identity_event_unreadable", entry_id=entry_id.decode(), reason=str(error))
        cache.clear()
        return
    match event:
        case SessionRevoked():
            cache.revoke(event.session_id)
        case ApiKeyRevoked():
            cache.revoke(event.api_key_id)
        case MembershipChanged():
            cache.revoke(event.user_id)
        case TenantDeleted():
            cache.revoke(event.tenant_id)
        case _:
            pass  # tells of something no token depends on
