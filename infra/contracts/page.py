"""`docs/events.md`: for people who write a consumer."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from infra.contracts.catalogue import Message, Schema, envelope_schema, schema_of, streams
from shared.events.envelope import Event
from shared.events.subscriptions import FOLLOWERS, PRODUCERS, PROGRESS_FOLLOWERS, PROGRESS_WRITERS, SUBSCRIBERS
from shared.redis_clients import PROGRESS_STREAM, stream_of

PREAMBLE: Final = Path(__file__).with_name("preamble.md")
_NOTE: Final = "<!-- Made by `uv run contracts`: edit shared/events/ or infra/contracts/preamble.md instead. -->"
_NONE: Final = "none"


def page(told: Sequence[Message]) -> str:
    """The whole page."""
    parts = [_NOTE, PREAMBLE.read_text(encoding="utf-8").strip(), "## Streams", _streams_table(told)]
    parts += ["## The envelope", _fields_table(envelope_schema())]
    for stream, entries in streams(told).items():
        parts.append(f"## {stream}")
        parts += [_section(message) for message in entries]
    return "\n\n".join(parts) + "\n"


def _streams_table(told: Sequence[Message]) -> str:
    rows = [
        ("stream", "written by", "subscribers (with a group)", "followers (without)", "kinds of entry"),
        *(
            (
                f"`{stream_of(producer)}`",
                producer,
                _names(SUBSCRIBERS[producer]),
                _names(FOLLOWERS[producer]),
                str(sum(stream_of(producer) == message.stream for message in told)),
            )
            for producer in PRODUCERS
        ),
        (f"`{PROGRESS_STREAM}`", _names(PROGRESS_WRITERS), _names(()), _names(PROGRESS_FOLLOWERS), "1, not an event"),
    ]
    return _table(rows)


def _section(message: Message) -> str:
    parts = [
        f"### {message.name}",
        f"`{message.kind}`" if message.is_event else f"Field `{message.field}`, without an envelope.",
        message.what,
        "\n".join(_facts(message)),
        _fields_table(schema_of(message.model)),
        f"```json\n{json.dumps(message.example, indent=2, ensure_ascii=False)}\n```",
    ]
    return "\n\n".join(parts)


def _facts(message: Message) -> Iterable[str]:
    yield f"- **Sent:** {message.sent}"
    yield f"- **For:** {message.whom}"
    yield f"- **Handled by:** {_names(message.handled_by)}"
    yield f"- **Followed by:** {_names(message.followed_by)}"
    if issubclass(message.model, Event):
        yield f"- **Subject:** `{message.model.subject_field}`"


def _fields_table(schema: Schema) -> str:
    required = set(schema.get("required", ()))
    rows = [("field", "type", "meaning")]
    for name, field in schema["properties"].items():
        optional = "" if name in required else ", optional"
        rows.append((f"`{name}`", f"{type_of(field)}{optional}", field["description"]))
    return _table(rows)


def type_of(field: Schema) -> str:
    """A JSON schema in a few words."""
    if "anyOf" in field:
        return " or ".join(type_of(choice) for choice in field["anyOf"])
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    kind = str(field.get("format", field["type"]))
    limits = [f"{sign} {field[name]}" for name, sign in (("minimum", "≥"), ("maximum", "≤")) if name in field]
    return " ".join([kind, ", ".join(limits)]).strip()


def _names(services: Sequence[str]) -> str:
    return ", ".join(services) or _NONE


def _table(rows: Sequence[Sequence[Any]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
