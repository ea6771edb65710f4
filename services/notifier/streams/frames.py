"""Server-Sent Events as bytes (WHATWG HTML, "Server-sent events"): a frame is encoded once for all its recipients.

`data` is one line of JSON, so nothing an event holds can end a frame or begin another field.
"""

import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from services.notifier.feeds.repository import FeedKey, StoredEvent
from services.notifier.runs.models import LAST_EVENTS
from shared.events.indexing import ProgressTick


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes of one event. `sequence` is None unless it is durable; `project_id` None when everybody may see it.
    `last`: nothing follows it in its feed."""

    wire: bytes
    sequence: int | None = None
    project_id: uuid.UUID | None = None
    last: bool = False


HEARTBEAT = Frame(b":\n\n")
FRAME_END = b"\n\n"
"""The end of every frame, and of nothing else."""


def durable(key: FeedKey, event: StoredEvent) -> Frame:
    data = {
        "type": event.type,
        "sequence": event.sequence,
        "time": event.time,
        "tenant_id": key.tenant_id,
        "project_id": str(event.project_id),
        **event.data,
        "traceparent": event.traceparent,
    }
    last = key.is_run and event.type in LAST_EVENTS
    return Frame(_event(event.type, data, id=event.sequence), event.sequence, event.project_id, last)


def progress(tick: ProgressTick) -> Frame:
    data = {
        "type": "job.progressed",
        "sequence": None,
        "time": tick.time,
        "tenant_id": tick.tenant_id,
        "project_id": tick.project_id,
        "document_id": tick.document_id,
        "job_id": tick.job_id,
        "stage": tick.stage,
        "percent": tick.percent,
        "done": tick.done,
        "total": tick.total,
        "unit": tick.unit,
        "traceparent": tick.traceparent,
    }
    return Frame(_event("job.progressed", data), project_id=tick.project_id)


def snapshot(key: FeedKey, *, sequence: int, jobs: Sequence[dict[str, Any]], complete: bool) -> bytes:
    """Running jobs as of now; `sequence` is the last durable event sent before it."""
    return _event("snapshot", {**_about(key, "snapshot", sequence), "complete": complete, "jobs": jobs})


def reset(key: FeedKey, *, sequence: int) -> bytes:
    """Missed events cannot be replayed: the client must reload its state. The feed continues after `sequence`."""
    return _event("reset", _about(key, "reset", sequence), id=sequence)


def last_state(key: FeedKey, run: Mapping[str, Any], *, sequence: int) -> bytes:
    """A run that has ended, as its last event would tell of it, when its events are not kept any more."""
    error = run["error"] or {}
    name = "error" if run["status"] == "failed" else "done"
    facts = {"status": run["status"], "output": run["output"], "exhausted": run["exhausted"]}
    facts |= {"code": error.get("code"), "reason": error.get("reason")}
    return _event(name, {**_about(key, name, sequence), **facts}, id=sequence)


def greeting(*, retry_ms: int, position: int | None) -> bytes:
    """First bytes of a stream. An id without data sets where a client that has not yet seen an event resumes."""
    identified = b"" if position is None else b"id: %d\n" % position
    return b"retry: %d\n%s\n" % (retry_ms, identified)


def goodbye(reason: str, *, retry_ms: int) -> bytes:
    """Last bytes of a stream that the server ends. `retry_ms` is random per client, to spread their return."""
    return b": %s\nretry: %d\n\n" % (reason.encode(), random.randint(retry_ms // 2, retry_ms * 2))  # noqa: S311


def _about(key: FeedKey, type: str, sequence: int) -> dict[str, Any]:
    return {
        "type": type,
        "sequence": sequence,
        "time": datetime.now(UTC),
        "tenant_id": key.tenant_id,
        "project_id": key.project_id,
        "document_id": None,
        **({"run_id": key.feed_id} if key.is_run else {}),
    }


def _event(type: str, data: dict[str, Any], *, id: int | None = None) -> bytes:
    encoded = orjson.dumps(data, option=orjson.OPT_UTC_Z)
    identified = b"" if id is None else b"id: %d\n" % id
    return b"%sevent: %s\ndata: %s\n\n" % (identified, type.encode(), encoded)
