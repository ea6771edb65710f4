"""Work queues: each item is worked on by one process at a time, whatever happens to it."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise

import pytest
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import OperationalError

from shared import db
from shared.background import run_in_background
from shared.dead_letters import DeadLetter
from shared.errors import Unavailable
from shared.tenancy import Database
from shared.wakeups import Signal
from shared.work_queue import ClaimLost, Retry, WorkQueue, keep_working
from tests.shared.conftest import SampleSettings
from tests.support.letters import stored
from tests.support.polling import eventually

CLAIM = timedelta(seconds=30)
QUEUE = WorkQueue(
    DeadLetter,
    due_at=DeadLetter.redrive_leased_until,
    claim=CLAIM,
    attempts=DeadLetter.redrive_starts,
    retry=Retry(timedelta(seconds=10), timedelta(seconds=60)),
)
ONCE_A_CLAIM = WorkQueue(DeadLetter, due_at=DeadLetter.redrive_leased_until, claim=CLAIM)
BRIEFLY = WorkQueue(DeadLetter, due_at=DeadLetter.redrive_leased_until, claim=timedelta(milliseconds=1))


@pytest.fixture(autouse=True)
async def nothing_due(database: Database) -> None:
    async with database.system() as session:
        await session.execute(delete(DeadLetter))


@pytest.fixture
async def items(database: Database) -> list[uuid.UUID]:
    """Three items, the first due for longest."""
    ids = [await stored(database) for _ in range(3)]
    for place, item_id in enumerate(ids):
        await change(database, item_id, seconds=place - 10)
    return ids


async def change(database: Database, item_id: uuid.UUID, *, seconds: float) -> None:
    """Make an item due so many seconds from now."""
    async with database.system() as session:
        due_at = func.now() + timedelta(seconds=seconds)
        await session.execute(update(DeadLetter).where(DeadLetter.id == item_id).values(redrive_leased_until=due_at))


async def claim(database: Database) -> DeadLetter | None:
    async with database.system() as session:
        return await QUEUE.claim(session)


async def claimed(database: Database) -> DeadLetter:
    item = await claim(database)
    assert item is not None
    return item


async def briefly_claimed(database: Database) -> DeadLetter:
    """A claim that ends at once."""
    async with database.system() as session:
        item = await BRIEFLY.claim(session)
    assert item is not None
    return item


async def left(database: Database) -> list[DeadLetter]:
    async with database.system() as session:
        return list(await session.scalars(select(DeadLetter).order_by(DeadLetter.id)))


async def due_in(database: Database, item_id: uuid.UUID) -> float:
    async with database.system() as session:
        due_at = await session.scalar(select(DeadLetter.redrive_leased_until).where(DeadLetter.id == item_id))
    assert due_at is not None
    return (due_at - datetime.now(UTC)).total_seconds()


async def finish(database: Database, item: DeadLetter) -> None:
    async with database.system() as session:
        await QUEUE.finish(session, item)


# --- claims ----------------------------------------------------------------------------------------------------------


async def test_an_item_is_claimed_by_one_of_many(database: Database, items: list[uuid.UUID]) -> None:
    found = await asyncio.gather(*(claim(database) for _ in range(8)))
    assert sorted(item.id for item in found if item is not None) == sorted(items)


async def test_a_claim_that_is_not_committed_keeps_nobody_waiting(database: Database, items: list[uuid.UUID]) -> None:
    async with database.system() as session:
        first = await QUEUE.claim(session)
        assert first is not None
        assert first.id == items[0]
        assert [(await claimed(database)).id, (await claimed(database)).id] == items[1:]
        assert await claim(database) is None
        await session.rollback()
    assert (await claimed(database)).id == items[0]


async def test_the_item_due_for_longest_comes_first_and_each_claim_is_counted(
    database: Database, items: list[uuid.UUID]
) -> None:
    assert [(await claimed(database)).id for _ in items] == items
    assert await claim(database) is None
    assert 25 < await due_in(database, items[0]) <= 30
    await change(database, items[0], seconds=-1)
    again = await claimed(database)
    assert (again.id, again.redrive_starts) == (items[0], 2)


async def test_an_item_that_is_not_due_or_never_is_not_claimed(database: Database) -> None:
    await stored(database)
    await change(database, await stored(database), seconds=5)
    assert await claim(database) is None


async def test_a_claim_that_has_ended_is_taken_over_and_who_lost_it_changes_nothing(
    database: Database, items: list[uuid.UUID]
) -> None:
    late = await claimed(database)
    await change(database, late.id, seconds=-20)
    current = await claimed(database)
    assert current.id == late.id
    for write in (QUEUE.finish, QUEUE.renew, QUEUE.held, partial(QUEUE.postpone, delay=CLAIM)):
        with pytest.raises(ClaimLost):
            async with database.system() as session:
                await session.execute(delete(DeadLetter).where(DeadLetter.id == items[2]))
                await write(session, late)
    assert [item.id for item in await left(database)] == items
    await finish(database, current)
    assert [item.id for item in await left(database)] == items[1:]
    with pytest.raises(ClaimLost):
        await finish(database, current)


async def test_a_claim_is_not_lost_before_another_takes_it(database: Database, items: list[uuid.UUID]) -> None:
    slow = await briefly_claimed(database)
    await asyncio.sleep(0.02)
    await finish(database, slow)
    assert [item.id for item in await left(database)] == items[1:]


async def test_a_claim_is_renewed_while_the_work_goes_on(database: Database, items: list[uuid.UUID]) -> None:
    item = await briefly_claimed(database)
    for _ in range(2):
        before = item.redrive_leased_until
        async with database.system() as session:
            await QUEUE.renew(session, item)
        assert before is not None
        assert item.redrive_leased_until is not None
        assert item.redrive_leased_until > before
    assert 25 < await due_in(database, items[0]) <= 30
    assert (await claimed(database)).id == items[1]
    await finish(database, item)


async def test_an_item_that_is_held_cannot_be_claimed(database: Database, items: list[uuid.UUID]) -> None:
    item = await briefly_claimed(database)
    await asyncio.sleep(0.02)
    async with database.system() as session:
        (await QUEUE.held(session, item)).last_reason = "seen"
        assert (await claimed(database)).id == items[1]
    assert (await left(database))[0].last_reason == "seen"
    assert [(await claimed(database)).id, (await claimed(database)).id] == [items[2], items[0]]


async def test_an_item_that_is_made_due_again_is_taken_from_who_works_on_it(
    database: Database, items: list[uuid.UUID]
) -> None:
    item = await claimed(database)
    await change(database, item.id, seconds=0)
    with pytest.raises(ClaimLost):
        await finish(database, item)


# --- work ------------------------------------------------------------------------------------------------------------


async def test_an_item_whose_work_fails_is_due_again_later_and_stops_no_other(
    database: Database, items: list[uuid.UUID]
) -> None:
    async def work(item: DeadLetter) -> None:
        if item.id == items[0]:
            raise KeyError("a defect")
        await finish(database, item)

    step = partial(QUEUE.work_on_next, database, work)
    assert [await step() for _ in range(4)] == [True, True, True, False]
    assert [item.id for item in await left(database)] == [items[0]]
    for wait in (10, 20, 40, 60, 60):
        assert wait - 5 < await due_in(database, items[0]) <= wait
        await change(database, items[0], seconds=-1)
        assert await step()


async def test_without_a_retry_a_failed_item_is_due_at_the_end_of_its_claim(
    database: Database, items: list[uuid.UUID]
) -> None:
    async def work(item: DeadLetter) -> None:
        raise KeyError("a defect")

    assert await ONCE_A_CLAIM.work_on_next(database, work)
    assert 25 < await due_in(database, items[0]) <= 30


@pytest.mark.parametrize("error", [Unavailable(), OSError(), OperationalError("", {}, ConnectionResetError())])
async def test_an_outage_is_told_to_the_loop_and_the_item_is_due_again_later(
    database: Database, items: list[uuid.UUID], error: Exception
) -> None:
    async def work(item: DeadLetter) -> None:
        raise error

    with pytest.raises(type(error)):
        await QUEUE.work_on_next(database, work)
    assert 5 < await due_in(database, items[0]) <= 10


async def test_who_lost_the_claim_while_working_does_not_move_the_item(
    database: Database, items: list[uuid.UUID]
) -> None:
    async def work(item: DeadLetter) -> None:
        await change(database, item.id, seconds=100)
        if item.id == items[0]:
            raise KeyError("a defect")
        await finish(database, item)

    for _ in range(2):
        assert await QUEUE.work_on_next(database, work)
    assert [round(await due_in(database, item_id), -1) for item_id in items[:2]] == [100, 100]


async def test_an_item_whose_work_is_cancelled_is_due_at_once(database: Database, items: list[uuid.UUID]) -> None:
    begun = asyncio.Event()

    async def work(item: DeadLetter) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with run_in_background(working(database, work), name="work"):
        await begun.wait()
    assert sorted([(await claimed(database)).id for _ in items]) == sorted(items)


# --- loops -----------------------------------------------------------------------------------------------------------


async def test_a_loop_works_until_nothing_is_due_and_looks_again(database: Database, items: list[uuid.UUID]) -> None:
    async with run_in_background(working(database, partial(finish, database)), name="work"):
        await eventually(partial(nothing_left, database))
        await change(database, await stored(database), seconds=-1)
        await eventually(partial(nothing_left, database))


async def test_a_loop_is_woken_up(database: Database, items: list[uuid.UUID]) -> None:
    wake, looked = Signal(), 0

    async def step() -> bool:
        nonlocal looked
        looked += 1
        return await QUEUE.work_on_next(database, partial(finish, database))

    async def has_looked() -> bool:
        return looked == 4

    async with run_in_background(partial(keep_working, step, name="work", poll_seconds=600, wake=wake), name="work"):
        await eventually(has_looked)
        await change(database, await stored(database), seconds=-1)
        wake()
        await eventually(partial(nothing_left, database))


async def test_a_loop_outlives_what_its_steps_raise_and_pauses_longer_each_time() -> None:
    clock = asyncio.get_running_loop().time
    calls: list[float] = []

    async def step() -> bool:
        calls.append(clock())
        if len(calls) < 5:
            raise (OSError("away"), KeyError("a defect"))[len(calls) % 2]
        return False

    async def recovered() -> bool:
        return len(calls) > 6

    async with run_in_background(partial(keep_working, step, name="work", poll_seconds=0.01), name="work") as task:
        await eventually(recovered)
        assert not task.done()
    pauses = [after - before for before, after in pairwise(calls)]
    assert all(pause >= least for pause, least in zip(pauses, (0.05, 0.1, 0.2, 0.4), strict=False))


async def test_a_loop_goes_on_once_postgres_is_back(
    database: Database, settings: SampleSettings, items: list[uuid.UUID]
) -> None:
    engines = await db.connect(settings)
    begun, cut_off = asyncio.Event(), asyncio.Event()

    async def work(item: DeadLetter) -> None:
        begun.set()
        await cut_off.wait()
        await finish(Database(engines), item)

    async with run_in_background(working(Database(engines), work), name="work"):
        await begun.wait()
        async with database.system() as session:
            await session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE usename = current_user AND pid <> pg_backend_pid()"
                )
            )
        await database.engines.dispose()
        cut_off.set()
        await eventually(partial(nothing_left, database))
    await engines.dispose()


def working(database: Database, work: Callable[[DeadLetter], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    return partial(keep_working, partial(QUEUE.work_on_next, database, work), name="work", poll_seconds=0.02)


async def nothing_left(database: Database) -> bool:
    return await left(database) == []
