"""One process of a service leads at a time, and another follows it."""

import asyncio
import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shared.leadership import Leadership
from shared.tenancy import Database
from tests.shared.backbone import value_of
from tests.support.polling import eventually


async def test_the_next_one_leads_when_the_first_steps_down(database: Database) -> None:
    name = f"test:{uuid.uuid4()}"
    first, second = (Leadership(name, database.engines.system) for _ in range(2))
    done = asyncio.Event()

    async def lead() -> None:
        async with second.held(meanwhile=lambda _seconds: asyncio.sleep(0.01)):
            await done.wait()

    async with first.held():
        following = asyncio.create_task(lead())
        await asyncio.sleep(0.1)
        assert (first.leading, second.leading) == (True, False)
        await first.confirm()
    assert not first.leading
    await eventually(lambda: value_of(second.leading))
    done.set()
    await following
    assert not second.leading


async def test_a_leader_whose_connection_is_gone_is_told_when_it_asks(database: Database) -> None:
    leadership = Leadership(f"test:{uuid.uuid4()}", database.engines.system)
    with pytest.raises(SQLAlchemyError):
        async with leadership.held():
            assert leadership._lock is not None
            pid = await leadership._lock.scalar(text("SELECT pg_backend_pid()"))
            async with database.engines.system.connect() as other:
                await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
            await leadership.confirm()
    assert not leadership.leading
