"""Who has which place of a worker."""

import asyncio
import math
import time
import uuid
from contextlib import suppress
from typing import Any

import pytest

from services.indexing import work_priority
from services.indexing.jobs.errors import CancelRequested, GaveWay
from services.indexing.jobs.leases import Lease
from services.indexing.jobs.worker_places import Places, Share
from shared.wakeups import Signal

TENANT, NEIGHBOUR, THIRD = (uuid.uuid4() for _ in range(3))


def held(places: Places, tenant_id: uuid.UUID, *, long: bool = False) -> Lease:
    """A job that has a place from now on."""
    lease = Lease(
        tenant_id=tenant_id,
        job_id=uuid.uuid4(),
        project_id=uuid.uuid4(),
        document_id=uuid.uuid4(),
        version=1,
        token=1,
        attempts=1,
        deferrals=0,
        announced=False,
        cancel_requested=False,
        long_running=long,
        chunk_count=None,
        traceparent=None,
        correlation_id=None,
        uploaded_at=None,
        taken_over_in=None,
        total=0,
        valid_until=math.inf,
    )
    places.take(lease)
    return lease


def test_a_long_job_leaves_its_short_place_to_others() -> None:
    places = Places(short=1, long=1)
    lease = held(places, TENANT)
    assert places.free() == [True]
    places.move(lease)
    assert (lease.long_running, places.free()) == (True, [False])
    places.move(lease)


def test_a_tenant_never_has_the_last_place_of_either_kind() -> None:
    places = Places(short=3, long=2)
    held(places, TENANT)
    assert places.full(False) == set()
    second = held(places, TENANT)
    assert places.full(False) == {TENANT}
    places.move(second)
    assert places.full(True) == {TENANT}
    with pytest.raises(GaveWay):
        places.move(held(places, TENANT))


def test_a_long_job_gives_way_when_there_is_no_place_for_it_however_many_tenants_have_them() -> None:
    places = Places(short=4, long=2)
    for tenant_id in (TENANT, NEIGHBOUR):
        places.move(held(places, tenant_id))
    late = held(places, THIRD)
    with pytest.raises(GaveWay):
        places.move(late)
    assert not late.long_running


def test_tenants_of_long_jobs_share_a_quarter_of_the_short_places(monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(short=8, long=2)
    for tenant_id in (TENANT, NEIGHBOUR):
        places.move(held(places, tenant_id))
    held(places, TENANT)
    assert places.full(False) == set()
    held(places, NEIGHBOUR)
    assert places.full(False) == {TENANT, NEIGHBOUR}
    places.held.clear()
    held(places, TENANT)
    held(places, TENANT)
    assert places.full(False) == {TENANT, NEIGHBOUR}
    hour_later = time.monotonic() + 3600
    monkeypatch.setattr(time, "monotonic", lambda: hour_later)
    assert places.full(False) == set()


def test_what_a_tenant_of_long_jobs_holds_of_the_short_places_is_free_to_others() -> None:
    places = Places(short=2, long=1)
    held(places, TENANT)
    book = held(places, NEIGHBOUR)
    assert places.free() == [True]
    places.move(book)
    later = held(places, NEIGHBOUR)
    assert (places.free(), places.full(False)) == ([False], {TENANT, NEIGHBOUR})
    held(places, THIRD)
    assert places.free() == []
    places.leave(later)
    assert (places.free(), places.full(False)) == ([], {TENANT, THIRD})


def test_there_is_an_end_to_places_left_by_tenants_of_long_jobs() -> None:
    places = Places(short=2, long=1)
    tenants = [uuid.uuid4() for _ in range(8)]
    for tenant_id in tenants:
        if False in places.free():
            held(places, tenant_id)
            places.took_long.note(tenant_id)
    assert len(places.held) == 4


def test_the_only_place_is_for_anybody() -> None:
    places = Places(short=1, long=1)
    places.move(held(places, TENANT))
    assert places.full(True) == set()
    note = held(places, TENANT)
    assert (places.full(False), places.free()) == ({TENANT}, [False])
    places.leave(note)
    assert (places.full(False), places.free()) == (set(), [False])
    held(places, NEIGHBOUR)
    assert (places.full(False), places.free()) == (set(), [])


async def test_a_long_job_goes_on_when_no_short_one_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_priority, "_WAITING_FACTOR", 1_000_000)
    places = Places(short=2, long=1)
    book, note, later_book = held(places, TENANT), held(places, NEIGHBOUR), held(places, THIRD)
    no_database: Any = None
    share = Share(places, book, no_database, Signal())
    async with share.step():
        assert not book.long_running
    share.takes_long()
    async with share.step():
        await asyncio.sleep(0.01)
    steps = asyncio.create_task(_step(share))
    await asyncio.sleep(0.02)
    places.leave(note)
    await asyncio.sleep(0.02)
    assert not steps.done()
    with pytest.raises(GaveWay):
        places.move(later_book)
    places.leave(later_book)
    await asyncio.wait_for(steps, 1)
    book.cancel_requested = True
    with pytest.raises(CancelRequested):
        await _step(share)


async def test_what_tenants_of_long_jobs_send_is_not_urgent() -> None:
    places = Places(short=4, long=2)
    book = held(places, TENANT)
    assert not await _nothing_urgent(places)
    places.move(book)
    next_book = held(places, TENANT)
    assert await _nothing_urgent(places)
    note = held(places, NEIGHBOUR)
    assert not await _nothing_urgent(places)
    places.leave(next_book)
    places.leave(note)
    places.leave(book)
    assert await _nothing_urgent(places)


async def _nothing_urgent(places: Places) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(places.urgent.none(), 0.02)
        return True
    return False


async def _step(share: Share) -> None:
    async with share.step():
        pass
