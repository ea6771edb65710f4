"""Handlers of what other services tell about the end of a document."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.purges import service
from shared.events.envelope import Envelope
from shared.events.indexing import IndexPurged
from shared.events.notifier import FeedPurged
from shared.handlers import Handler


async def on_index_purged(session: AsyncSession, event: IndexPurged, _envelope: Envelope) -> None:
    await service.note_index(session, event)


async def on_feed_purged(session: AsyncSession, event: FeedPurged, _envelope: Envelope) -> None:
    await service.note_feed(session, event)


HANDLERS: tuple[Handler[Any], ...] = (
    Handler(event=IndexPurged, call=on_index_purged, name="projects.purges.on_index_purged"),
    Handler(event=FeedPurged, call=on_feed_purged, name="projects.purges.on_feed_purged"),
)
