"""Progress of running jobs, from the stream `events.progress` straight to the clients of this replica.

Guarantees nothing: ticks are ephemeral, not stored and not repeated; the next one says how far a job is.
"""

import uuid
from collections.abc import Callable

import orjson

from services.notifier.feeds.repository import FeedKey
from services.notifier.streams.hub import Channel, Hub
from shared.events.indexing import ProgressTick
from shared.telemetry import get_logger

FIELD = b"tick"
_log = get_logger(__name__)


def hear(hub: Hub) -> Callable[[bytes, dict[bytes, bytes]], None]:
    """A reader of the stream for `shared.stream_tail.follow`."""

    def on_entry(_entry_id: bytes, fields: dict[bytes, bytes]) -> None:
        try:
            heard = orjson.loads(fields[FIELD])
            # Most ticks are of projects without a subscriber here: those cost a look at two ids and no more.
            channels = _listening(hub, uuid.UUID(heard["tenant_id"]), uuid.UUID(heard["project_id"]))
            tick = ProgressTick.model_validate(heard) if channels else None
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            _log.warning("tick_malformed", reason=type(error).__name__)
            return
        if tick is not None:
            for channel in channels:
                channel.progress.offer(tick)

    return on_entry


def _listening(hub: Hub, tenant_id: uuid.UUID, project_id: uuid.UUID) -> list[Channel]:
    channels = (hub.channel(FeedKey(tenant_id, feed_id)) for feed_id in (project_id, tenant_id))
    return [channel for channel in channels if channel is not None]
