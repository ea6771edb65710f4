"""Feeds of runs: what happened in a run, for clients that follow it on any replica and at any time.

Guarantees: an event has the number that the run gave it, and is shown after all before it, in whatever order they
arrive and however often; the same on every replica. A feed is kept for `kept_for` after its last event.
Forgets: everything, when the run is deleted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from services.notifier.feeds.repository import FeedKey, StoredEvent
from services.notifier.runs import repository
from services.notifier.runs.repository import NewRunEvent
from shared.tenancy import after_commit, tenant_of

_MOST_SHOWN: Final = 500


@dataclass(frozen=True, slots=True)
class RunGrown:
    """The feed of a run has these events now, which nobody was shown before. Without any, it is gone."""

    key: FeedKey
    events: Sequence[StoredEvent]


Announce = Callable[[RunGrown], None]


async def append(session: AsyncSession, event: NewRunEvent, *, kept_for: timedelta, announce: Announce) -> None:
    """Append to the run's feed; announced, with what waited for it, once the transaction has committed."""
    held = await repository.hold(session, run_id=event.run_id, project_id=event.project_id, kept_for=kept_for)
    if held is None:
        return
    last, trimmed = held
    if trimmed or event.sequence <= last:
        return
    await repository.add(session, event)
    if event.sequence != last + 1:
        return
    shown = await repository.following(session, event.run_id, event.project_id, after=last, limit=_MOST_SHOWN)
    await repository.advance(session, event.run_id, shown[-1].sequence)
    grown = RunGrown(FeedKey(tenant_of(session), event.run_id, event.project_id), shown)
    after_commit(session, lambda: announce(grown))


async def forget(session: AsyncSession, event: NewRunEvent, *, kept_for: timedelta, announce: Announce) -> None:
    """Remove the feed of a deleted run; nothing is appended to it any more, however late it arrives."""
    held = await repository.hold(session, run_id=event.run_id, project_id=event.project_id, kept_for=kept_for)
    if held is None:
        return
    await repository.trim(session, event.run_id)
    gone = RunGrown(FeedKey(tenant_of(session), event.run_id, event.project_id), ())
    after_commit(session, lambda: announce(gone))
