"""What a dead letter keeps, what a list of them tells, and what it does not."""

import uuid

import pytest
from sqlalchemy import delete

from shared import dead_letters
from shared.dead_letters import DeadLetter, Evidence, Wanted, quarantine
from shared.tenancy import Database
from tests.shared.events import NoteWritten
from tests.support.letters import CANARY, envelope_of, letter_of, stored


@pytest.fixture(autouse=True)
async def no_letters(database: Database) -> None:
    async with database.system() as session:
        await session.execute(delete(DeadLetter))


async def listed(database: Database, wanted: Wanted | None = None, **options: int) -> list[uuid.UUID]:
    async with database.system() as session:
        found = await dead_letters.page(session, wanted or Wanted(), limit=options.get("limit", 100))
    return [letter.id for letter in found]


async def test_evidence_is_stored_once_however_often_it_is_brought(database: Database, tenant_id: uuid.UUID) -> None:
    evidence = Evidence("events.notifier", "1-0", "notifier", "tests.handler", "ValueError: first", 5, b"{}", tenant_id)
    await quarantine(database, evidence)
    await quarantine(database, Evidence("events.notifier", "1-0", "notifier", "tests.handler", "second", 9, b"[]"))
    (letter_id,) = await listed(database)
    letter = await letter_of(database, letter_id)
    assert (letter.reason, letter.attempts, letter.payload) == ("ValueError: first", 5, b"{}")
    assert (letter.state, letter.redrives, letter.tenant_id) == ("open", 0, tenant_id)


@pytest.mark.parametrize("reason", ["a \0 in the middle", "half a pair \ud800", "x" * 5000])
async def test_a_reason_that_postgres_refuses_does_not_keep_its_entry_for_ever(database: Database, reason: str) -> None:
    letter_id = await stored(database, reason=reason)
    kept = (await letter_of(database, letter_id)).reason
    assert len(kept) <= 2000
    assert kept[:2] == reason[:2]


async def test_pages_are_newest_first_and_end(database: Database) -> None:
    ids = [await stored(database) for _ in range(5)]
    async with database.system() as session:
        first = await dead_letters.page(session, Wanted(), limit=3)
        rest = await dead_letters.page(session, Wanted(), limit=3, before=(first[-1].created_at, first[-1].id))
        assert await dead_letters.count(session, Wanted()) == 5
    assert [letter.id for letter in (*first, *rest)] == ids[::-1]


async def test_letters_are_found_by_handler_and_by_type(database: Database, tenant_id: uuid.UUID) -> None:
    undecodable = await stored(database)
    envelope = envelope_of(NoteWritten(note_id=uuid.uuid4()), tenant_id)
    failed = await stored(database, envelope, handler="tests.handler")
    assert await listed(database, Wanted(handler="decode")) == [undecodable]
    assert await listed(database, Wanted(handler="tests.handler")) == [failed]
    assert await listed(database, Wanted(event_type=NoteWritten.type)) == [failed]
    assert await listed(database, Wanted(event_type="other.v1")) == []


async def test_a_summary_quotes_nothing_of_the_event_and_a_detail_everything(
    database: Database, tenant_id: uuid.UUID
) -> None:
    envelope = envelope_of(NoteWritten(note_id=uuid.uuid4()), tenant_id)
    letter = await letter_of(database, await stored(database, envelope, handler="tests.handler"))
    letter.last_reason = f"IntegrityError('{CANARY}')"
    summary = dead_letters.summary_of(letter)
    assert (summary.error, summary.last_error) == ("ValueError", "IntegrityError")
    assert CANARY not in summary.model_dump_json()
    detail = dead_letters.detail_of(letter)
    assert (detail.payload, detail.payload_encoding) == (envelope.to_json().decode(), "utf-8")
    assert CANARY in detail.reason


async def test_bytes_that_are_no_text_are_shown_in_base64(database: Database) -> None:
    detail = dead_letters.detail_of(await letter_of(database, await stored(database, payload=b"\xff\x00")))
    assert (detail.payload, detail.payload_encoding, detail.last_error) == ("/wA=", "base64", None)
