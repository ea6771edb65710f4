"""Thinning of progress."""

import asyncio
import uuid

import orjson

from services.notifier.streams.frames import Frame
from services.notifier.streams.progress_throttle import INTERVAL, Progress
from tests.services.notifier.test_streams import tick
from tests.support.polling import eventually


class Shown:
    """Frames with the time at which they were shown."""

    def __init__(self) -> None:
        self.percents: list[int] = []
        self.times: list[float] = []

    def __call__(self, frame: Frame) -> None:
        (data,) = (line for line in frame.wire.splitlines() if line.startswith(b"data: "))
        self.percents.append(orjson.loads(data.removeprefix(b"data: "))["percent"])
        self.times.append(asyncio.get_running_loop().time())


async def test_a_document_is_shown_ten_times_a_second_at_most_and_its_newest_tick_always() -> None:
    shown = Shown()
    progress = Progress(shown)
    ids = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    for percent in range(101):
        progress.offer(tick(*ids, percent))
        if percent % 10 == 0:
            await asyncio.sleep(0.02)

    async def finished() -> bool:
        return shown.percents[-1] == 100

    await eventually(finished)
    assert shown.percents[0] == 0
    assert shown.percents == sorted(shown.percents)
    assert len(shown.percents) <= 2 + (shown.times[-1] - shown.times[0]) / INTERVAL
    assert all(later - earlier >= INTERVAL * 0.99 for earlier, later in zip(shown.times, shown.times[1:], strict=False))


async def test_documents_do_not_slow_each_other() -> None:
    shown = Shown()
    progress = Progress(shown)
    for percent in range(50):
        progress.offer(tick(uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), percent))
    assert shown.percents == list(range(50))
    progress.close()


async def test_what_waits_is_dropped_when_the_document_is_done() -> None:
    shown = Shown()
    progress = Progress(shown)
    ids = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    progress.offer(tick(*ids, 1))
    progress.offer(tick(*ids, 2))
    progress.forget(ids[2])

    async def idle() -> bool:
        return progress.idle

    await eventually(idle)
    assert shown.percents == [1]
