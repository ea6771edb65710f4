import uuid
from typing import ClassVar

import orjson
import pytest

from shared.events.envelope import Envelope, Event, Undecodable, producer_of
from tests.shared.events import NoteWritten


def sample(**overrides: object) -> dict[str, object]:
    note = NoteWritten(note_id=uuid.uuid4())
    envelope = Envelope.wrap(
        note,
        event_id=uuid.uuid4(),
        tenant_id=uuid.uuid4(),
        sequence=3,
        traceparent=None,
        correlation_id=None,
        causation_id=None,
    )
    return {**orjson.loads(envelope.to_json()), **overrides}


def test_an_event_comes_back_as_it_went() -> None:
    document = sample()
    envelope = Envelope.from_json(orjson.dumps(document))
    event = envelope.payload()
    assert isinstance(event, NoteWritten)
    assert envelope.subject == str(event.note_id)
    assert (envelope.specversion, envelope.source, envelope.sequence) == ("1.0", "/quarry/notifier", 3)


def test_fields_of_a_newer_minor_version_are_ignored() -> None:
    document = sample(newattribute="x")
    document["data"] = {**document["data"], "added_later": 1}  # type: ignore[dict-item]  # a JSON object
    assert isinstance(Envelope.from_json(orjson.dumps(document)).payload(), NoteWritten)


@pytest.mark.parametrize("raw", [b"", b"junk", b"[]", b"{}", b'{"specversion": "0.3"}'])
def test_what_is_no_cloudevent_is_undecodable(raw: bytes) -> None:
    with pytest.raises(Undecodable):
        Envelope.from_json(raw)


@pytest.mark.parametrize("change", [{"type": "notifier.note.written.v9"}, {"data": {}}, {"tenantid": None}])
def test_an_unknown_type_or_misfit_is_undecodable(change: dict[str, object]) -> None:
    with pytest.raises(Undecodable):
        Envelope.from_json(orjson.dumps(sample(**change))).payload()


def test_the_producer_is_read_from_the_type() -> None:
    assert producer_of("projects.document.uploaded.v1") == "projects"
    with pytest.raises(Undecodable):
        producer_of("nonsense")


def test_a_type_is_declared_once_and_well_formed() -> None:
    for taken in (NoteWritten.type, "NotAType"):
        with pytest.raises(TypeError):
            type(
                "Copy",
                (Event,),
                {"type": taken, "subject_field": "note_id", "__annotations__": {"type": ClassVar[str]}},
            )


def test_attributes_without_a_value_are_left_out() -> None:
    assert not {"traceparent", "correlationid", "causationid"} & set(sample())
