"""Dead letters tried again: once asked for, performed by whoever runs, with its outcome in the row."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from shared import db, redrive
from shared.background import run_in_background
from shared.dead_letters import DeadLetter, Wanted
from shared.delivery import Dispatcher
from shared.events.envelope import Envelope
from shared.failpoints import FailpointError
from shared.handlers import Handler
from shared.metrics import Metrics
from shared.project_access import KnownProject
from shared.redrive import MAX_STARTS, Redriver
from shared.tenancy import Database
from tests.shared.conftest import SampleSettings
from tests.shared.events import NoteWritten
from tests.support.letters import CANARY, envelope_of, letter_of, stored
from tests.support.polling import eventually

HANDLER = "tests.redriven"


class Effects:
    """A handler with an effect in Postgres, and a defect that can be mended."""

    def __init__(self) -> None:
        self.defect: Callable[[], Exception | None] = lambda: None
        self.applied: list[uuid.UUID] = []

    async def __call__(self, session: AsyncSession, event: NoteWritten, envelope: Envelope) -> None:
        if error := self.defect():
            raise error
        session.add(KnownProject(project_id=event.note_id, active=True, sequence=envelope.sequence))
        self.applied.append(event.note_id)


@pytest.fixture
def effects() -> Effects:
    return Effects()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("notifier")


@pytest.fixture
def redriver(database: Database, effects: Effects, metrics: Metrics) -> Redriver:
    dispatcher = Dispatcher(database, [Handler(NoteWritten, effects, HANDLER)])
    return Redriver(database, dispatcher.apply_again, metrics, poll_seconds=0.02)


@pytest.fixture(autouse=True)
async def no_letters(database: Database) -> None:
    async with database.system() as session:
        await session.execute(delete(DeadLetter))


async def failed(database: Database, tenant_id: uuid.UUID, handler: str = HANDLER) -> tuple[uuid.UUID, Envelope]:
    envelope = envelope_of(NoteWritten(note_id=uuid.uuid4()), tenant_id)
    return await stored(database, envelope, handler=handler), envelope


async def ask(database: Database, *ids: uuid.UUID) -> list[uuid.UUID]:
    async with database.system() as session:
        return await redrive.request(session, ids)


async def change(database: Database, letter_id: uuid.UUID, **values: Any) -> None:
    async with database.system() as session:
        await session.execute(update(DeadLetter).where(DeadLetter.id == letter_id).values(**values))


async def known(database: Database, tenant_id: uuid.UUID) -> set[str]:
    async with database.tenant(tenant_id) as session:
        return {str(project) for project in await session.scalars(select(KnownProject.project_id))}


async def test_one_redriven_has_its_effect_and_is_open_no_more(
    database: Database, redriver: Redriver, tenant_id: uuid.UUID, metrics: Metrics
) -> None:
    letter_id, envelope = await failed(database, tenant_id)
    other_id, _ = await failed(database, tenant_id)
    assert await ask(database, letter_id) == [letter_id]
    assert (await letter_of(database, letter_id)).state == "waiting"
    assert await redriver.redrive_next() is True
    assert await redriver.redrive_next() is False
    letter = await letter_of(database, letter_id)
    assert (letter.state, letter.redrives, letter.attempts, letter.last_reason) == ("redriven", 1, 6, None)
    assert (letter.redrive_requested_at, letter.redrive_leased_until) == (None, None)
    assert (await letter_of(database, other_id)).state == "open"
    assert await known(database, tenant_id) == {envelope.subject}
    counted = b'quarry_redrives_total{handler="tests.redriven",outcome="redriven",service="notifier"} 1.0'
    assert counted in await metrics.exposition()


async def test_all_redriven_have_their_effects_in_the_order_they_came(
    database: Database, redriver: Redriver, effects: Effects, tenant_id: uuid.UUID
) -> None:
    letters = [await failed(database, tenant_id) for _ in range(5)]
    undecodable = await stored(database)
    async with database.system() as session:
        asked = await redrive.request_all(session, Wanted(handler=HANDLER))
        assert await redrive.request_all(session, Wanted(handler=HANDLER)) == []
    assert asked == [letter_id for letter_id, _ in letters]
    async with run_in_background(redriver.run, name="redriver"):
        await eventually(lambda: _are(database, asked, "redriven"))
    assert [str(note) for note in effects.applied] == [envelope.subject for _, envelope in letters]
    assert (await letter_of(database, undecodable)).state == "open"


async def test_one_that_fails_again_keeps_its_evidence_and_counts(
    database: Database, redriver: Redriver, effects: Effects, tenant_id: uuid.UUID
) -> None:
    letter_id, envelope = await failed(database, tenant_id)
    before = await letter_of(database, letter_id)
    effects.defect = lambda: KeyError("still broken \0")
    for count in (1, 2):
        await ask(database, letter_id)
        await redriver.redrive_next()
        letter = await letter_of(database, letter_id)
        assert (letter.state, letter.redrives, letter.attempts) == ("open", count, 5 + count)
        assert letter.last_reason == "KeyError: 'still broken \\x00'"
        assert letter.last_failed_at is not None
    assert (letter.reason, letter.payload, letter.entry_id) == (before.reason, envelope.to_json(), before.entry_id)
    async with database.system() as session:
        (outcome,) = await redrive.outcomes(session, [letter_id])
    assert (outcome.state, outcome.handler) == ("open", HANDLER)
    effects.defect = lambda: None
    await ask(database, letter_id)
    await redriver.redrive_next()
    assert (await letter_of(database, letter_id)).state == "redriven"
    assert await known(database, tenant_id) == {envelope.subject}


async def test_what_is_asked_for_while_the_service_is_down_is_done_when_it_comes_back(
    database: Database, redriver: Redriver, tenant_id: uuid.UUID
) -> None:
    letter_id, envelope = await failed(database, tenant_id)
    await ask(database, letter_id)
    async with database.system() as session:
        assert [outcome.state for outcome in await redrive.outcomes(session, [letter_id])] == ["waiting"]
    async with run_in_background(redriver.run, name="redriver"):
        await eventually(lambda: _are(database, [letter_id], "redriven"))
    assert await known(database, tenant_id) == {envelope.subject}


async def test_a_second_redrive_has_no_second_effect(
    database: Database, redriver: Redriver, effects: Effects, tenant_id: uuid.UUID
) -> None:
    letter_id, _ = await failed(database, tenant_id)
    await ask(database, letter_id)
    await redriver.redrive_next()
    assert await ask(database, letter_id) == [letter_id]
    assert await redriver.redrive_next() is False
    # As after a crash between the effect and the note of it: only the inbox stands in the way.
    await change(database, letter_id, redriven_at=None, redrive_requested_at=datetime.now(UTC))
    assert await redriver.redrive_next() is True
    assert (await letter_of(database, letter_id)).state == "redriven"
    assert len(effects.applied) == 1


async def test_letters_of_the_same_event_and_handler_are_closed_together(
    database: Database, redriver: Redriver, tenant_id: uuid.UUID
) -> None:
    letter_id, envelope = await failed(database, tenant_id)
    twin = await stored(database, envelope, handler=HANDLER)
    elsewhere = await stored(database, envelope, handler="tests.another")
    await ask(database, letter_id)
    await redriver.redrive_next()
    assert (await letter_of(database, twin)).state == "redriven"
    assert (await letter_of(database, elsewhere)).state == "open"


async def test_one_that_could_not_be_decoded_is_applied_by_every_handler_of_its_type(
    database: Database, redriver: Redriver, tenant_id: uuid.UUID
) -> None:
    envelope = envelope_of(NoteWritten(note_id=uuid.uuid4()), tenant_id)
    letter_id = await stored(database, payload=envelope.to_json(), reason="unknown event type")
    broken = await stored(database)
    await ask(database, letter_id, broken)
    async with run_in_background(redriver.run, name="redriver"):
        await eventually(lambda: _are(database, [letter_id], "redriven"))
        await eventually(lambda: _are(database, [broken], "open"))
    assert await known(database, tenant_id) == {envelope.subject}
    assert (await letter_of(database, broken)).last_reason is not None


async def test_a_handler_that_is_gone_is_a_failure_with_a_reason(
    database: Database, redriver: Redriver, tenant_id: uuid.UUID
) -> None:
    letter_id, _ = await failed(database, tenant_id, handler="tests.gone")
    await ask(database, letter_id)
    await redriver.redrive_next()
    assert "tests.gone" in str((await letter_of(database, letter_id)).last_reason)


async def test_an_outage_is_waited_out_and_not_counted(
    database: Database, redriver: Redriver, effects: Effects, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redrive, "POSTPONED", timedelta(milliseconds=10))
    calls = 0

    async def away(raw: bytes, handler: str, _stream: str) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise OperationalError("SELECT 1", {}, ConnectionResetError("away"))

    letter_id, _ = await failed(database, tenant_id)
    await ask(database, letter_id)
    async with run_in_background(Redriver(database, away, poll_seconds=0.02).run, name="redriver"):
        await eventually(lambda: _are(database, [letter_id], "redriven"))
    letter = await letter_of(database, letter_id)
    assert (calls, letter.redrives, letter.last_reason) == (3, 1, None)


async def test_an_outage_without_end_becomes_a_failure(
    database: Database, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redrive, "POSTPONED", timedelta(milliseconds=1))

    async def away(raw: bytes, handler: str, _stream: str) -> None:
        raise ConnectionRefusedError("nobody there")

    letter_id, _ = await failed(database, tenant_id)
    await ask(database, letter_id)
    async with run_in_background(Redriver(database, away, poll_seconds=0.01).run, name="redriver"):
        await eventually(lambda: _are(database, [letter_id], "open"))
    assert (await letter_of(database, letter_id)).last_reason == "ConnectionRefusedError: nobody there"


async def test_one_that_hangs_is_given_up(
    database: Database, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redrive, "REDRIVE_SECONDS", 0.1)

    async def hang(raw: bytes, handler: str, _stream: str) -> None:
        await asyncio.Event().wait()

    letter_id, _ = await failed(database, tenant_id)
    await ask(database, letter_id)
    await Redriver(database, hang).redrive_next()
    letter = await letter_of(database, letter_id)
    assert (letter.state, letter.redrives) == ("open", 1)
    assert str(letter.last_reason).startswith("TimeoutError")


async def test_a_lease_keeps_others_away_until_it_ends(
    database: Database, redriver: Redriver, effects: Effects, tenant_id: uuid.UUID
) -> None:
    letter_id, _ = await failed(database, tenant_id)
    await ask(database, letter_id)
    effects.defect = lambda: FailpointError("the process ends")
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(raw: bytes, handler: str, _stream: str) -> None:
        entered.set()
        await leave.wait()
        raise ValueError("came back late")

    first = asyncio.create_task(Redriver(database, slow).redrive_next())
    await entered.wait()
    assert await redriver.redrive_next() is False
    await change(database, letter_id, redrive_leased_until=datetime.now(UTC) - timedelta(seconds=1))
    effects.defect = lambda: None
    assert await redriver.redrive_next() is True
    leave.set()
    await first
    # The first one's lease had ended: its failure is not believed any more.
    letter = await letter_of(database, letter_id)
    assert (letter.state, letter.last_reason, letter.redrives) == ("redriven", None, 1)


async def test_one_that_ends_its_process_every_time_is_given_up(
    database: Database, redriver: Redriver, effects: Effects, tenant_id: uuid.UUID
) -> None:
    letter_id, _ = await failed(database, tenant_id)
    await ask(database, letter_id)
    await change(database, letter_id, redrive_starts=MAX_STARTS)
    assert await redriver.redrive_next() is True
    letter = await letter_of(database, letter_id)
    assert (letter.state, letter.redrives, effects.applied) == ("open", 1, [])
    assert "processes ended" in str(letter.last_reason)
    await ask(database, letter_id)
    await redriver.redrive_next()
    assert (await letter_of(database, letter_id)).state == "redriven"


async def test_two_redrivers_share_the_work_and_repeat_none(
    database: Database, redriver: Redriver, effects: Effects, tenant_id: uuid.UUID
) -> None:
    ids = [(await failed(database, tenant_id))[0] for _ in range(12)]
    await ask(database, *ids)
    async with (
        run_in_background(redriver.run, name="first redriver"),
        run_in_background(redriver.run, name="second redriver"),
    ):
        await eventually(lambda: _are(database, ids, "redriven"))
    assert len(effects.applied) == 12
    assert {(await letter_of(database, letter_id)).redrives for letter_id in ids} == {1}


async def test_a_redriver_outlives_an_outage_of_its_own(
    database: Database, settings: SampleSettings, tenant_id: uuid.UUID
) -> None:
    letter_id, envelope = await failed(database, tenant_id)
    engines = await db.connect(settings)
    effects = Effects()
    dispatcher = Dispatcher(Database(engines), [Handler(NoteWritten, effects, HANDLER)])
    redriver = Redriver(Database(engines), dispatcher.apply_again, poll_seconds=0.02)
    async with run_in_background(redriver.run, name="redriver"):
        async with database.system() as session:
            await session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE usename = current_user AND pid <> pg_backend_pid()"
                )
            )
        await database.engines.dispose()
        await ask(database, letter_id)
        await eventually(lambda: _are(database, [letter_id], "redriven"))
    await engines.dispose()
    assert [str(note) for note in effects.applied] == [envelope.subject]


async def test_an_unknown_id_is_not_among_the_answers(database: Database) -> None:
    assert await ask(database, uuid.uuid4()) == []


async def test_the_log_of_a_redrive_names_the_letter_and_not_its_payload(
    database: Database, redriver: Redriver, tenant_id: uuid.UUID, capfd: pytest.CaptureFixture[str]
) -> None:
    letter_id, _ = await failed(database, tenant_id)
    await ask(database, letter_id)
    await redriver.redrive_next()
    assert CANARY not in "".join(capfd.readouterr())


async def _are(database: Database, ids: list[uuid.UUID], state: str) -> bool:
    async with database.system() as session:
        found = await redrive.outcomes(session, ids)
    return len(found) == len(ids) and all(outcome.state == state for outcome in found)
