"""A version of an event never changes but by optional fields: what was sent once is read and written as it was."""

import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel, Field, ValidationError, create_model

from infra.contracts.catalogue import GOLDEN, ContractError, messages, published_events, schema_of, told_by
from shared.events.envelope import Envelope, Event
from shared.events.indexing import JobFailed, ProgressTick
from shared.redis_clients import PROGRESS_STREAM
from tests.contracts.golden_files import golden, sent_again

EVENTS = published_events()


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.type)
def test_what_was_sent_is_read_and_sent_again_as_it_was(kind: type[Event]) -> None:
    entry = golden(kind.type)
    envelope = Envelope.from_json(orjson.dumps(entry))
    event = envelope.payload()
    assert type(event) is kind
    assert envelope.subject == event.subject
    assert sent_again(kind, entry) == entry


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.type)
def test_an_example_is_complete(kind: type[Event]) -> None:
    entry = golden(kind.type)
    assert set(entry) == set(Envelope.model_fields)
    assert set(entry["data"]) == set(kind.model_fields)
    assert all(value is not None for value in (*entry.values(), *entry["data"].values()))


def test_a_tick_of_progress_is_read_and_written_as_it_was() -> None:
    entry = golden(PROGRESS_STREAM)
    tick = ProgressTick.model_validate_json(orjson.dumps(entry))
    assert tick.model_dump(mode="json", exclude_none=True) == entry
    assert set(entry) == set(ProgressTick.model_fields)


def test_there_is_no_golden_file_of_an_event_that_is_gone() -> None:
    """An old version is read as long as somebody may send it: its class stays, and so does its file."""
    assert {path.stem for path in GOLDEN.iterdir()} == {kind.type for kind in EVENTS} | {PROGRESS_STREAM}


def changed(without: str = "", **fields: Any) -> type[Event]:
    """`JobFailed` as somebody might edit it."""
    kept: dict[str, Any] = {
        name: (field.annotation, field) for name, field in JobFailed.model_fields.items() if name != without
    }
    made: type[Event] = create_model("JobFailed", __base__=Event, **kept, **fields)
    made.subject_field = "job_id"
    return made


def test_an_optional_field_may_be_added() -> None:
    entry = golden(JobFailed.type)
    again = sent_again(changed(hint=(str | None, None)), entry)
    assert again["data"] == {**entry["data"], "hint": None}


@pytest.mark.parametrize(
    "edit",
    [
        {"without": "attempts"},
        {"without": "attempts", "tries": (int | None, None)},
        {"without": "attempts", "attempts": (str | None, None)},
        {"without": "attempts", "attempts": (float, ...)},
        {"attempts_left": (int, ...)},
        {"without": "code", "code": (uuid.UUID, ...)},
        {"without": "attempts", "attempts": (int, Field(ge=10))},
    ],
    ids=["dropped", "renamed", "another type", "another number", "more required", "narrower", "stricter"],
)
def test_any_other_edit_is_refused(edit: dict[str, Any]) -> None:
    entry = golden(JobFailed.type)
    try:
        again = sent_again(changed(**edit), entry)
    except ValidationError:
        return
    # As bytes: 5 is not 5.0 on the wire.
    assert orjson.dumps(again["data"], option=orjson.OPT_SORT_KEYS) != orjson.dumps(
        entry["data"], option=orjson.OPT_SORT_KEYS
    )


def test_an_unedited_event_is_not_refused() -> None:
    """The net above catches edits, not the way they are made."""
    entry = golden(JobFailed.type)
    assert sent_again(changed(), entry) == entry


def test_an_event_without_a_golden_file_cannot_be_documented(tmp_path: Path) -> None:
    for path in GOLDEN.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / f"{JobFailed.type}.json").write_text("{")
    with pytest.raises(ContractError, match="is not JSON"):
        messages(tmp_path)
    (tmp_path / f"{JobFailed.type}.json").unlink()
    with pytest.raises(ContractError, match=r"indexing\.job\.failed\.v1 has no golden file"):
        messages(tmp_path)


@pytest.mark.parametrize("kind", [*EVENTS, ProgressTick], ids=lambda kind: kind.__name__)
def test_every_event_says_when_it_is_sent_and_who_may_rely_on_it(kind: type[BaseModel]) -> None:
    assert all(len(part) > 15 for part in told_by(kind))
    assert kind.model_config["frozen"]
    assert schema_of(kind)["properties"]


def test_an_event_that_does_not_say_so_is_refused() -> None:
    class Silent(Event):
        said_of_a_field: int

    class Vague(Event):
        """Something happened.

        Sent: whenever it does, and that
        may be often.
        """

    with pytest.raises(ContractError, match="Silent lacks what happened, Sent:, For:"):
        told_by(Silent)
    with pytest.raises(ContractError, match=r"Vague lacks For:$"):
        told_by(Vague)
    with pytest.raises(ContractError, match=r"Silent\.said_of_a_field has no docstring"):
        schema_of(Silent)
