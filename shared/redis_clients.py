"""Redis connections, each with the timeouts its use needs.

redis-py's defaults (5 s socket timeout, 10 retries) make a blocking read of 5 s fail when idle and send a timed-out
XADD again. Publishing and commands never retry by themselves; readers block less than their timeout.

Over TCP redis-py also asks for maintenance notifications, which a self-hosted server does not send, and then no longer
checks whether a pooled connection was closed meanwhile: after a restart of Redis each would fail once.
"""

from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

BLOCK_MS = 2000
NO_NOTICES: Final = MaintNotificationsConfig(enabled=False)


def command_client(url: str) -> Redis:
    """For short commands and publishing: fails within 2 s, never sends a command twice."""
    return Redis.from_url(
        url,
        socket_timeout=2.0,
        socket_connect_timeout=2.0,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=15,
        max_connections=64,
        maint_notifications_config=NO_NOTICES,
    )


def reader_client(url: str) -> Redis:
    """For reads that block up to `BLOCK_MS`."""
    return Redis.from_url(
        url,
        socket_timeout=BLOCK_MS / 1000 + 3,
        socket_connect_timeout=2.0,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        maint_notifications_config=NO_NOTICES,
    )


def stream_of(service: str) -> str:
    """The durable stream of a producing service."""
    return f"events.{service}"


PROGRESS_STREAM = "events.progress"
