"""Whose turn it is, and what a worker that lost its turn may still do."""

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update

from services.indexing.agents.runs import repository, turns
from services.indexing.agents.runs.models import Run, RunTurn
from services.indexing.agents.runs.turns import QUEUE
from shared.tenancy import Database
from shared.work_queue import ClaimLost


@pytest.fixture(autouse=True)
async def quiet(database: Database) -> AsyncIterator[None]:
    """No run of another test is due, and no worker runs."""
    async with database.system() as session:
        await session.execute(text("UPDATE run_turns SET due_at = now() + interval '1 day'"))
    yield
    async with database.system() as session:
        await session.execute(text("UPDATE run_turns SET due_at = now() + interval '1 day'"))


async def waiting(database: Database, tenant_id: uuid.UUID, *, seconds: int = 0) -> uuid.UUID:
    """A run that has waited for so long."""
    async with database.tenant(tenant_id) as session:
        run = Run(
            project_id=uuid.uuid4(),
            principal={},
            agent="answer",
            agent_version=1,
            input={},
            on_disconnect="continue",
            seconds_limit=60.0,
            model_calls_limit=1,
            model_tokens_limit=1000,
        )
        await repository.add(session, run)
        waited = func.now() - timedelta(seconds=seconds)
        await session.execute(update(RunTurn).where(RunTurn.run_id == run.id).values(due_at=waited))
    return run.id


async def claimed(database: Database, *full: uuid.UUID) -> uuid.UUID | None:
    async with database.system() as session:
        turn = await turns.claim(session, full=full, seconds=8)
        return None if turn is None else turn.run_id


async def test_a_tenant_with_few_runs_goes_first(database: Database) -> None:
    busy, patient = uuid.uuid4(), uuid.uuid4()
    first = await waiting(database, busy, seconds=30)
    others = [await waiting(database, busy, seconds=20 - number) for number in range(3)]
    late = await waiting(database, patient, seconds=1)
    taken = [await claimed(database) for _ in range(5)]
    assert taken == [first, late, *others]


async def test_a_tenant_that_has_its_share_is_left_out(database: Database) -> None:
    busy, other = uuid.uuid4(), uuid.uuid4()
    await waiting(database, busy, seconds=30)
    theirs = await waiting(database, other)
    assert await claimed(database, busy) == theirs
    assert await claimed(database, busy) is None


async def test_two_workers_never_have_the_same_run(database: Database) -> None:
    tenant_id = uuid.uuid4()
    run_id = await waiting(database, tenant_id)
    assert [await claimed(database), await claimed(database)] == [run_id, None]


async def test_a_turn_is_held_for_as_long_as_was_said(database: Database) -> None:
    await waiting(database, uuid.uuid4())
    lasts = select(RunTurn.due_at - func.now())
    async with database.system() as session:
        turn = await turns.claim(session, full=(), seconds=30)
        assert turn is not None
        mine = lasts.where(RunTurn.run_id == turn.run_id)
        assert await session.scalar(mine) == timedelta(seconds=30)
    async with database.system() as session:
        await QUEUE.renew(session, turn, lasting=timedelta(seconds=90))
        assert await session.scalar(mine) == timedelta(seconds=90)


async def test_a_worker_that_was_frozen_past_its_claim_writes_nothing(database: Database) -> None:
    tenant_id = uuid.uuid4()
    await waiting(database, tenant_id)
    async with database.system() as session:
        frozen = await turns.claim(session, full=(), seconds=8)
    assert frozen is not None
    async with database.system() as session:
        await session.execute(update(RunTurn).where(RunTurn.run_id == frozen.run_id).values(due_at=func.now()))
    assert await claimed(database) == frozen.run_id
    with pytest.raises(ClaimLost):
        async with database.tenant(tenant_id) as session:
            await QUEUE.held(session, frozen)
