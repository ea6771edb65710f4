import asyncio
import time

import pytest

from services.indexing import work_priority
from services.indexing.work_priority import BackgroundWork, UrgentWork, yield_to
from tests.support.polling import eventually


async def test_patient_work_begins_when_nothing_urgent_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    urgent = UrgentWork()
    work = BackgroundWork(urgent)
    monkeypatch.setattr(work_priority, "_WAITING_FACTOR", 1_000_000)
    async with work.piece():
        await asyncio.sleep(0.01)
    done: list[str] = []

    async def piece() -> None:
        async with work.piece():
            done.append("background")

    with urgent.under_way():
        with urgent.under_way():
            waiting = asyncio.create_task(piece())
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.05)
        done.append("urgent")
    await waiting
    assert done == ["urgent", "background"]


async def test_patient_work_waits_in_proportion_and_never_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    urgent = UrgentWork()
    work = BackgroundWork(urgent)
    with urgent.under_way():
        async with work.piece():
            await asyncio.sleep(0.02)
        began = time.perf_counter()
        async with work.piece():
            assert time.perf_counter() - began >= 0.2
            await asyncio.sleep(0.02)
        monkeypatch.setattr(work_priority, "_MOST_SECONDS", 0.05)
        began = time.perf_counter()
        async with work.piece():
            assert time.perf_counter() - began < 0.2


class Pausing:
    """Tells what it was told, and when."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def pause(self) -> None:
        self.told.append(("pause", time.perf_counter()))

    def go_on(self) -> None:
        self.told.append(("go on", time.perf_counter()))

    async def told_of(self, count: int) -> list[str]:
        async def so_many() -> bool:
            return len(self.told) >= count

        await eventually(so_many, every=0.002)
        return [word for word, _ in self.told]


async def test_what_goes_on_by_itself_pauses_while_something_urgent_is_under_way() -> None:
    urgent, work = UrgentWork(), Pausing()
    going = asyncio.create_task(yield_to(urgent, work))
    await asyncio.sleep(0.02)
    with urgent.under_way():
        assert await work.told_of(1) == ["pause"]
        await asyncio.sleep(0.05)
        assert await work.told_of(1) == ["pause"]
    assert await work.told_of(2) == ["pause", "go on"]
    with urgent.under_way():
        assert await work.told_of(3) == ["pause", "go on", "pause"]
        going.cancel()
        assert await work.told_of(4) == ["pause", "go on", "pause", "go on"]


async def test_no_pause_is_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_priority, "_MOST_SECONDS", 0.2)
    urgent, work = UrgentWork(), Pausing()
    going = asyncio.create_task(yield_to(urgent, work))
    with urgent.under_way():
        assert await work.told_of(4) == ["pause", "go on", "pause", "go on"]
    going.cancel()
    (_, paused), (_, went_on), (_, again), _ = work.told
    assert again - went_on >= (went_on - paused) / 10 >= 0.02
