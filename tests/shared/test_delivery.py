"""Dispatching: several events share a transaction when all goes well, and none pays for another when it does not."""

import uuid
from collections.abc import Sequence

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from shared.dead_letters import MAX_DELIVERIES, DeadLetter
from shared.delivery import Delivery, Dispatcher, Outcome
from shared.events.envelope import Envelope, ForeignEvent
from shared.handlers import BatchHandler, Handler, Received
from shared.inbox import InboxEntry
from shared.outbox import OutboxEvent, publish
from shared.project_access import KnownProject
from shared.tenancy import Database
from tests.shared.backbone import Recorder, effects
from tests.shared.events import NoteWritten


def note(tenant_id: uuid.UUID, *, sequence: int = 1) -> Envelope:
    return Envelope.wrap(
        NoteWritten(note_id=uuid.uuid4()),
        event_id=uuid.uuid4(),
        tenant_id=tenant_id,
        sequence=sequence,
        traceparent=None,
        correlation_id="request-1",
        causation_id=None,
    )


def deliveries(envelopes: Sequence[Envelope], *, count: int = 1) -> list[Delivery]:
    return [
        Delivery("events.notifier", "notifier", f"{number}-1", envelope.to_json(), count)
        for number, envelope in enumerate(envelopes, 1)
    ]


def ids(found: Sequence[Delivery]) -> list[str]:
    return [delivery.entry_id for delivery in found]


def noted(envelopes: Sequence[Envelope]) -> set[uuid.UUID]:
    return {uuid.UUID(envelope.subject) for envelope in envelopes}


async def letters(database: Database, tenant_id: uuid.UUID) -> list[DeadLetter]:
    async with database.system() as session:
        return list(await session.scalars(select(DeadLetter).where(DeadLetter.tenant_id == tenant_id)))


async def test_events_of_one_tenant_share_a_transaction(database: Database, tenant_id: uuid.UUID) -> None:
    transactions: dict[uuid.UUID, set[str]] = {}

    async def handle(session: AsyncSession, _: NoteWritten, envelope: Envelope) -> None:
        current = text("SELECT pg_current_xact_id()::text").execution_options(tenant_guard="no table")
        transactions.setdefault(envelope.tenantid, set()).add(str(await session.scalar(current)))

    dispatcher = Dispatcher(database, [Handler(NoteWritten, handle, name) for name in ("tests.one", "tests.two")])
    other = uuid.uuid4()
    outcome = await dispatcher.deliver(deliveries([note(tenant) for tenant in (tenant_id, other, tenant_id, other)]))
    assert sorted(ids(outcome.done)) == ["1-1", "2-1", "3-1", "4-1"]
    assert {tenant: len(seen) for tenant, seen in transactions.items()} == {tenant_id: 1, other: 1}


async def test_one_failure_costs_the_others_nothing(
    database: Database, recorder: Recorder, tenant_id: uuid.UUID
) -> None:
    envelopes = [note(tenant_id) for _ in range(5)]
    recorder.fail = lambda event: ValueError("no") if str(event.note_id) == envelopes[2].subject else None
    dispatcher = Dispatcher(database, [Handler(NoteWritten, recorder, "tests.recorder")])
    outcome = await dispatcher.deliver(deliveries(envelopes))
    assert (ids(outcome.done), outcome.not_counted) == (["1-1", "2-1", "4-1", "5-1"], [])
    assert await effects(database, tenant_id) == noted([*envelopes[:2], *envelopes[3:]])
    assert await letters(database, tenant_id) == []


async def test_the_same_event_twice_in_a_batch_has_one_effect(
    database: Database, recorder: Recorder, tenant_id: uuid.UUID
) -> None:
    envelope = note(tenant_id)
    dispatcher = Dispatcher(database, [Handler(NoteWritten, recorder, "tests.recorder")])
    outcome = await dispatcher.deliver(deliveries([envelope, note(tenant_id), envelope]))
    assert ids(outcome.done) == ["1-1", "2-1", "3-1"]
    assert len(recorder.called) == 2
    assert ids((await dispatcher.deliver(deliveries([envelope, envelope]))).done) == ["1-1", "2-1"]
    assert len(recorder.called) == 2


async def test_a_batch_handler_gets_what_is_new_at_once_and_in_order(database: Database, tenant_id: uuid.UUID) -> None:
    calls: list[list[str]] = []

    async def handle(_: AsyncSession, received: Sequence[Received[NoteWritten]]) -> None:
        calls.append([str(item.event.note_id) for item in received])

    dispatcher = Dispatcher(database, [BatchHandler(NoteWritten, handle, "tests.batch")])
    envelopes = [note(tenant_id) for _ in range(4)]
    await dispatcher.deliver(deliveries(envelopes[1:2]))
    await dispatcher.deliver(deliveries(envelopes))
    assert calls == [[envelopes[1].subject], [envelopes[index].subject for index in (0, 2, 3)]]


async def test_a_batch_handler_that_fails_is_given_its_events_one_by_one(
    database: Database, tenant_id: uuid.UUID
) -> None:
    envelopes = [note(tenant_id) for _ in range(3)]

    async def handle(session: AsyncSession, received: Sequence[Received[NoteWritten]]) -> None:
        for event, envelope in received:
            session.add(KnownProject(project_id=event.note_id, active=True, sequence=envelope.sequence))
        if any(str(item.event.note_id) == envelopes[1].subject for item in received):
            raise ValueError("no")

    dispatcher = Dispatcher(database, [BatchHandler(NoteWritten, handle, "tests.batch")])
    outcome = await dispatcher.deliver(deliveries(envelopes))
    assert ids(outcome.done) == ["1-1", "3-1"]
    assert await effects(database, tenant_id) == noted([envelopes[0], envelopes[2]])


async def test_what_one_event_has_loaded_is_not_what_the_next_one_sees(
    database: Database, tenant_id: uuid.UUID
) -> None:
    project_id = uuid.uuid4()
    async with database.tenant(tenant_id) as session:
        session.add(KnownProject(project_id=project_id, active=True, sequence=0))
    seen: list[int] = []
    # A session forgets by itself what nobody holds.
    held: list[KnownProject] = []

    async def handle(session: AsyncSession, _: NoteWritten, __: Envelope) -> None:
        project = await session.get(KnownProject, (tenant_id, project_id))
        assert project is not None
        held.append(project)
        seen.append(project.sequence)
        advance = text("UPDATE known_projects SET sequence = sequence + 1 WHERE project_id = :id")
        await session.execute(advance.execution_options(tenant_guard="the test's own row"), {"id": project_id})

    dispatcher = Dispatcher(database, [Handler(NoteWritten, handle, "tests.seeing")])
    assert len((await dispatcher.deliver(deliveries([note(tenant_id) for _ in range(3)]))).done) == 3
    assert seen == [0, 1, 2]


async def test_each_event_causes_its_own_events(database: Database, tenant_id: uuid.UUID) -> None:
    async def handle(session: AsyncSession, _: NoteWritten, __: Envelope) -> None:
        publish(session, NoteWritten(note_id=uuid.uuid4()), sequence=1)

    envelopes = [note(tenant_id) for _ in range(3)]
    await Dispatcher(database, [Handler(NoteWritten, handle, "tests.publishing")]).deliver(deliveries(envelopes))
    async with database.tenant(tenant_id) as session:
        rows = (await session.scalars(select(OutboxEvent).order_by(OutboxEvent.position))).all()
    assert [(row.causation_id, row.correlation_id) for row in rows] == [
        (str(envelope.id), "request-1") for envelope in envelopes
    ]


async def test_an_event_that_ended_every_process_is_quarantined_untried(
    database: Database, recorder: Recorder, tenant_id: uuid.UUID
) -> None:
    dispatcher = Dispatcher(database, [Handler(NoteWritten, recorder, "tests.recorder")])
    outcome = await dispatcher.deliver(deliveries([note(tenant_id)], count=MAX_DELIVERIES + 1))
    assert ids(outcome.done) == ["1-1"]
    assert recorder.called == []
    (letter,) = await letters(database, tenant_id)
    assert (letter.handler, letter.attempts) == ("tests.recorder", MAX_DELIVERIES + 1)
    assert letter.reason == f"NeverReturned: given up after {MAX_DELIVERIES} deliveries"


async def test_an_outage_does_not_count_as_an_attempt(
    database: Database, recorder: Recorder, tenant_id: uuid.UUID
) -> None:
    recorder.fail = lambda _: ConnectionError("Postgres is away")
    dispatcher = Dispatcher(database, [Handler(NoteWritten, recorder, "tests.recorder")])
    outcome = await dispatcher.deliver(deliveries([note(tenant_id)], count=MAX_DELIVERIES))
    assert (outcome.done, ids(outcome.not_counted)) == ([], ["1-1"])
    assert await letters(database, tenant_id) == []


async def test_a_statement_that_takes_too_long_is_the_events_failure(database: Database, tenant_id: uuid.UUID) -> None:
    tried: list[uuid.UUID] = []

    async def handle(session: AsyncSession, event: NoteWritten, _: Envelope) -> None:
        tried.append(event.note_id)
        guard = {"tenant_guard": "reads no row"}
        await session.execute(text("SET LOCAL statement_timeout = '20ms'").execution_options(**guard))
        await session.execute(text("SELECT pg_sleep(5)").execution_options(**guard))

    dispatcher = Dispatcher(database, [Handler(NoteWritten, handle, "tests.slow")])
    event = note(tenant_id)
    outcome = await dispatcher.deliver(deliveries([event], count=1))
    assert (outcome.done, outcome.not_counted) == ([], [])
    outcome = await dispatcher.deliver(deliveries([event], count=MAX_DELIVERIES))
    assert ids(outcome.done) == ["1-1"]
    assert len(tried) == 2
    (letter,) = await letters(database, tenant_id)
    assert letter.handler == "tests.slow"


async def test_a_value_that_can_never_be_stored_is_no_outage(database: Database, tenant_id: uuid.UUID) -> None:
    async def handle(session: AsyncSession, event: NoteWritten, envelope: Envelope) -> None:
        session.add(KnownProject(project_id=event.note_id, active=True, sequence=envelope.sequence * 2))

    dispatcher = Dispatcher(database, [Handler(NoteWritten, handle, "tests.storing")])
    outcome = await dispatcher.deliver(deliveries([note(tenant_id, sequence=2**62)], count=MAX_DELIVERIES))
    assert ids(outcome.done) == ["1-1"]
    (letter,) = await letters(database, tenant_id)
    assert letter.handler == "tests.storing"


async def test_evidence_that_cannot_be_stored_is_not_acknowledged(
    database: Database, recorder: Recorder, tenant_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise ConnectionError("Postgres is away")

    monkeypatch.setattr("shared.delivery.quarantine", away)
    recorder.fail = lambda _: ValueError("no")
    dispatcher = Dispatcher(database, [Handler(NoteWritten, recorder, "tests.recorder")])
    undecodable = Delivery("events.notifier", "notifier", "9-1", b"?", 1)
    outcome = await dispatcher.deliver([*deliveries([note(tenant_id)], count=MAX_DELIVERIES), undecodable])
    assert outcome.done == []
    assert sorted(ids(outcome.not_counted)) == ["1-1", "9-1"]


async def test_an_event_that_nobody_handles_is_done(database: Database, tenant_id: uuid.UUID) -> None:
    (delivery,) = deliveries([note(tenant_id)])
    assert await Dispatcher(database, []).deliver([delivery]) == Outcome(done=[delivery])
    async with database.tenant(tenant_id) as session:
        assert await session.scalar(select(func.count()).select_from(InboxEntry)) == 0


async def test_applying_again_runs_the_named_handler_once(
    database: Database, recorder: Recorder, tenant_id: uuid.UUID
) -> None:
    other = Recorder()
    handlers = [Handler(NoteWritten, recorder, "tests.recorder"), Handler(NoteWritten, other, "tests.other")]
    dispatcher = Dispatcher(database, handlers)
    raw = note(tenant_id).to_json()
    for _ in range(2):
        await dispatcher.apply_again(raw, "tests.recorder", "events.notifier")
    assert (len(recorder.called), len(other.called)) == (1, 0)
    with pytest.raises(LookupError, match="gone"):
        await dispatcher.apply_again(raw, "tests.gone", "events.notifier")


async def test_an_event_on_the_stream_of_another_producer_is_quarantined_and_not_applied(
    database: Database, recorder: Recorder, tenant_id: uuid.UUID
) -> None:
    """Whoever may write to one stream does not speak for the others, and nobody for somebody else on his own."""
    dispatcher = Dispatcher(database, [Handler(NoteWritten, recorder, "tests.recorder")])
    believed, elsewhere, pretended = (note(tenant_id) for _ in range(3))
    pretended = pretended.model_copy(update={"source": "/quarry/identity"})
    stray = Delivery("events.projects", "notifier", f"{uuid.uuid4().int % 10**12}-1", elsewhere.to_json(), 1)
    false = Delivery("events.notifier", "notifier", f"{uuid.uuid4().int % 10**12}-1", pretended.to_json(), 1)
    (good,) = deliveries([believed])
    outcome = await dispatcher.deliver([stray, false, good])
    assert ids(outcome.done) == [stray.entry_id, false.entry_id, good.entry_id]
    assert noted([believed]) == set(await effects(database, tenant_id))
    async with database.system() as session:
        chosen = select(DeadLetter).where(DeadLetter.entry_id.in_([stray.entry_id, false.entry_id]))
        found = {letter.entry_id: letter for letter in await session.scalars(chosen)}
    assert found[stray.entry_id].reason == (
        "ForeignEvent: notifier.note.written.v1 from '/quarry/notifier' on events.projects"
    )
    assert found[false.entry_id].reason == (
        "ForeignEvent: notifier.note.written.v1 from '/quarry/identity' on events.notifier"
    )
    for letter in found.values():
        with pytest.raises(ForeignEvent):
            await dispatcher.apply_again(letter.payload, letter.handler, letter.stream)


async def test_even_what_nobody_handles_is_quarantined_on_a_foreign_stream(
    database: Database, tenant_id: uuid.UUID
) -> None:
    stray = Delivery("events.identity", "notifier", f"{uuid.uuid4().int % 10**12}-1", note(tenant_id).to_json(), 1)
    assert await Dispatcher(database, []).deliver([stray]) == Outcome(done=[stray])
    async with database.system() as session:
        assert await session.scalar(select(DeadLetter.handler).where(DeadLetter.entry_id == stray.entry_id)) == "decode"
