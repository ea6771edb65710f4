"""Everything services tell each other: what `shared.events` declares, with an example from the golden files."""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

import shared.events
from shared.events.envelope import Envelope, Event, producer_of, registered_events
from shared.events.indexing import ProgressTick
from shared.events.subscriptions import FOLLOWED, HANDLED, PROGRESS_FOLLOWERS, PROGRESS_WRITERS
from shared.redis_clients import PROGRESS_STREAM, stream_of

ROOT: Final = Path(__file__).resolve().parents[2]
GOLDEN: Final = ROOT / "tests" / "contracts" / "golden"

Schema = dict[str, Any]


class ContractError(RuntimeError):
    """Something is declared that cannot be documented; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Message:
    """One kind of stream entry.

    `kind` is the event's type, or the stream's name if it is no event; `field` is where the entry holds it. `what`,
    `sent` and `whom` are the paragraphs of the docstring, `example` is what the entry holds, as an object.
    """

    name: str
    kind: str
    stream: str
    field: str
    producers: tuple[str, ...]
    handled_by: tuple[str, ...]
    followed_by: tuple[str, ...]
    model: type[BaseModel]
    what: str
    sent: str
    whom: str
    example: Mapping[str, Any]

    @property
    def is_event(self) -> bool:
        return issubclass(self.model, Event)


def published_events() -> list[type[Event]]:
    """Every event of `shared.events`, by producer and in the order of declaration."""
    for module in pkgutil.iter_modules(shared.events.__path__):
        importlib.import_module(f"{shared.events.__name__}.{module.name}")
    prefix = f"{shared.events.__name__}."
    ours = [event for event in registered_events().values() if event.__module__.startswith(prefix)]
    return sorted(ours, key=lambda event: (producer_of(event.type), _line_of(event)))


def messages(golden: Path) -> list[Message]:
    """Every kind of message, events first.

    Raises:
        ContractError: a docstring, the docstring of a field, or a golden file is missing.
    """
    return [*(_of_event(event, golden) for event in published_events()), _progress(golden)]


def schema_of(model: type[BaseModel]) -> Schema:
    """The JSON schema of what `model` reads: fields that may be missing are not required.

    Raises:
        ContractError: a field has no description.
    """
    schema = model.model_json_schema(mode="validation")
    for name, field in schema["properties"].items():
        field.pop("title", None)
        if not field.get("description"):
            raise ContractError(f"{model.__name__}.{name} has no docstring that says what it is")
    return schema


def envelope_schema() -> Schema:
    """The JSON schema of an envelope as it is written: attributes without a value are left out instead of null."""
    schema = schema_of(Envelope)
    required = [name for name, field in Envelope.model_fields.items() if field.is_required() or field.default]
    for field in schema["properties"].values():
        if "anyOf" in field:
            (kind,) = (choice for choice in field.pop("anyOf") if choice["type"] != "null")
            field.update(kind)
            del field["default"]
    return {**schema, "required": required}


def told_by(model: type[BaseModel]) -> tuple[str, str, str]:
    """What happened, when it is sent, and for whom: the paragraphs of a docstring, each on one line.

    Raises:
        ContractError: one of them is missing.
    """
    found = {"": "", "Sent:": "", "For:": ""}
    own = model.__doc__ if "__doc__" in vars(model) else None
    for paragraph in inspect.cleandoc(own or "").split("\n\n"):
        line = " ".join(paragraph.split())
        label = next((label for label in ("Sent:", "For:") if line.startswith(label)), "")
        found[label] = f"{found[label]} {line.removeprefix(label).strip()}".strip()
    if missing := [label or "what happened" for label, text in found.items() if not text]:
        raise ContractError(f"the docstring of {model.__name__} lacks {', '.join(missing)}")
    return found[""], found["Sent:"], found["For:"]


def _of_event(event: type[Event], golden: Path) -> Message:
    producer = producer_of(event.type)
    what, sent, whom = told_by(event)
    return Message(
        name=event.__name__,
        kind=event.type,
        stream=stream_of(producer),
        field="event",
        producers=(producer,),
        handled_by=tuple(service for service, events in HANDLED.items() if event in events),
        followed_by=tuple(service for service, events in FOLLOWED.items() if event in events),
        model=event,
        what=what,
        sent=sent,
        whom=whom,
        example=_example(golden, event.type),
    )


def _progress(golden: Path) -> Message:
    what, sent, whom = told_by(ProgressTick)
    return Message(
        name=ProgressTick.__name__,
        kind=PROGRESS_STREAM,
        stream=PROGRESS_STREAM,
        field="tick",
        producers=PROGRESS_WRITERS,
        handled_by=(),
        followed_by=PROGRESS_FOLLOWERS,
        model=ProgressTick,
        what=what,
        sent=sent,
        whom=whom,
        example=_example(golden, PROGRESS_STREAM),
    )


def _example(golden: Path, name: str) -> Mapping[str, Any]:
    path = golden / f"{name}.json"
    try:
        example: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ContractError(f"{name} has no golden file {path.name}: a complete event, as it is sent") from error
    except json.JSONDecodeError as error:
        raise ContractError(f"{path.name} is not JSON: {error}") from error
    return example


def _line_of(event: type[Event]) -> int:
    return inspect.getsourcelines(event)[1]


def streams(told: Sequence[Message]) -> dict[str, list[Message]]:
    """Messages by stream, in order of first appearance."""
    found: dict[str, list[Message]] = {}
    for message in told:
        found.setdefault(message.stream, []).append(message)
    return found
