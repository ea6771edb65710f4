"""Thinning of progress: at most one tick per document every `INTERVAL` seconds, and always the newest.

A waiting tick is dropped when a durable event of its document is sent: what comes after `document.indexed` must not
look like indexing.
"""

import asyncio
import uuid
from collections.abc import Callable

from services.notifier.streams import frames
from services.notifier.streams.frames import Frame
from shared.events.indexing import ProgressTick

INTERVAL = 0.1


class Progress:
    """Progress of the documents of one channel, given to `show` as frames."""

    __slots__ = ("_show_frame", "_shown_at", "_timer", "_waiting")

    def __init__(self, show: Callable[[Frame], None]) -> None:
        self._show_frame = show
        self._shown_at: dict[uuid.UUID, float] = {}
        self._waiting: dict[uuid.UUID, ProgressTick] = {}
        self._timer: asyncio.TimerHandle | None = None

    def offer(self, tick: ProgressTick) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._shown_at.get(tick.document_id, -INTERVAL) >= INTERVAL:
            self._show(tick, now)
        else:
            self._waiting[tick.document_id] = tick
        self._arm()

    def forget(self, document_id: uuid.UUID) -> None:
        self._waiting.pop(document_id, None)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is remembered."""
        return not (self._shown_at or self._waiting or self._timer)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _show(self, tick: ProgressTick, now: float) -> None:
        self._waiting.pop(tick.document_id, None)
        self._shown_at[tick.document_id] = now
        self._show_frame(frames.progress(tick))

    def _arm(self) -> None:
        if self._timer is None and self._shown_at:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._flush)

    def _flush(self) -> None:
        """Show what has waited long enough; forget documents without news since."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        due = [document_id for document_id, shown_at in self._shown_at.items() if now - shown_at >= INTERVAL]
        for document_id in due:
            tick = self._waiting.get(document_id)
            if tick is None:
                del self._shown_at[document_id]
            else:
                self._show(tick, now)
        self._arm()
