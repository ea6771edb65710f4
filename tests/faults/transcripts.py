"""I8: what each listener heard is its feed, as Postgres has it."""

from collections.abc import Sequence
from typing import Any

import asyncpg
import orjson

from tests.faults import views
from tests.faults.listeners import Listener
from tests.faults.report import Violation

Numbered = dict[int, str]


async def check(postgres: asyncpg.Connection, listeners: Sequence[Listener]) -> list[Violation]:
    return [
        Violation("I8", f"{listener.path} of tenant {listener.tenant_id}", wrong)
        for listener in listeners
        if (wrong := compare(listener, await _feed(postgres, listener)))
    ]


def compare(listener: Listener, feed: Numbered) -> list[str]:
    """Every number once and in order from where the listener began, each with its type; nothing reset."""
    heard = [(frame.id, frame.event) for frame in listener.frames if frame.id is not None]
    wrong = [f"heard {frame.event}" for frame in listener.frames if frame.event == "reset"]
    for place, (number, event) in enumerate(heard, listener.since + 1):
        if number != place:
            wrong.append(f"heard {number} ({event}) where {place} was next")
            break
        if feed.get(number) != event:
            wrong.append(f"heard {event} as number {number}, the feed has {feed.get(number)}")
    return wrong


async def behind(postgres: asyncpg.Connection, listeners: Sequence[Listener]) -> list[str]:
    """Listeners that have not heard everything yet, of feeds that can be listened to."""
    found = []
    for listener in listeners:
        row = await postgres.fetchrow(
            "SELECT feed.last_sequence, project.deleted_at FROM notifier.feeds AS feed "
            "LEFT JOIN projects.projects AS project ON project.id = feed.feed_id "
            "WHERE feed.tenant_id = $1 AND feed.feed_id = $2",
            listener.tenant_id,
            listener.feed_id,
        )
        if row is not None and row["deleted_at"] is None and listener.last_id < row["last_sequence"]:
            found.append(f"{listener.path} heard up to {listener.last_id} of {row['last_sequence']}")
    return found


async def _feed(postgres: asyncpg.Connection, listener: Listener) -> Numbered:
    rows = await postgres.fetch(views.TOLD, listener.tenant_id, listener.feed_id)
    column = "tenant_sequence" if listener.feed_id == listener.tenant_id else "sequence"
    return {row[column]: row["type"] for row in rows}


def decoded(raw: bytes) -> dict[str, Any] | None:
    """An envelope as it stands in a stream, None for what is none."""
    try:
        envelope = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return envelope if isinstance(envelope, dict) and {"id", "tenantid"} <= envelope.keys() else None
