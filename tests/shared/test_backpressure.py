"""Events are refused while too many wait, and accepted again."""

import uuid

import pytest
from sqlalchemy import update

from shared.background import run_in_background
from shared.backpressure import Backlog, BacklogFull
from shared.outbox import OutboxEvent, caused_by_request, publish
from shared.relay import Relay
from shared.tenancy import Database
from tests.shared.backbone import value_of, write
from tests.shared.events import NoteWritten
from tests.support.polling import eventually

pytestmark = pytest.mark.usefixtures("fresh_stream")


@pytest.fixture
def backlog(database: Database) -> Backlog:
    """Three events may wait."""
    database.backlog = Backlog(limit=3)
    return database.backlog


async def command(database: Database, tenant_id: uuid.UUID) -> None:
    async with database.tenant(tenant_id) as session:
        caused_by_request(session, "request-1")
        publish(session, NoteWritten(note_id=uuid.uuid4()), sequence=1)


async def test_requests_are_refused_from_the_limit_on(
    database: Database, backlog: Backlog, tenant_id: uuid.UUID
) -> None:
    for _ in range(3):
        await command(database, tenant_id)
        await backlog.look(database.engines.system)
    with pytest.raises(BacklogFull) as refused:
        await command(database, tenant_id)
    assert (refused.value.status, refused.value.code, refused.value.retry_after) == (503, "backlog_full", 5)


async def test_what_follows_from_an_event_is_never_refused(
    database: Database, backlog: Backlog, tenant_id: uuid.UUID
) -> None:
    await write(database, tenant_id, 5)
    await backlog.look(database.engines.system)
    assert backlog.waiting == 3
    await write(database, tenant_id)


async def test_what_redis_lost_and_is_published_again_refuses_nothing(
    database: Database, backlog: Backlog, tenant_id: uuid.UUID
) -> None:
    await write(database, tenant_id, 5)
    async with database.system() as session:
        await session.execute(update(OutboxEvent).values(entry_id="1-1"))
    await backlog.look(database.engines.system)
    assert backlog.waiting == 0


async def test_events_are_accepted_once_the_relay_has_caught_up(
    database: Database, backlog: Backlog, relay: Relay, tenant_id: uuid.UUID
) -> None:
    backlog.waiting = 3
    async with run_in_background(lambda: backlog.watch(database.engines.system), name="backlog"):
        await eventually(lambda: value_of(backlog.waiting == 0))
    await command(database, tenant_id)
