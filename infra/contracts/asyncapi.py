"""`docs/asyncapi.json`: the same contracts for programs, as AsyncAPI 3.0 (https://www.asyncapi.com/docs/reference).

Channels are streams, messages are kinds of entry, operations are what each service sends, receives in a group, or
follows without one. What AsyncAPI cannot express is in `x-` members: the field of a stream entry that holds the
payload (`x-stream-field`) and the consumer group of an operation (`x-consumer-group`, null for a follower).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from infra.contracts.catalogue import Message, Schema, envelope_schema, schema_of, streams
from shared.events.envelope import producer_of

Json = dict[str, Any]

_DESCRIPTION: Final = (
    "The events that Quarry's services exchange over Redis Streams. Every event is a CloudEvent in JSON, delivered at "
    "least once, in no guaranteed order; `docs/events.md` lists the guarantees."
)
_CLOUD_EVENT: Final = "application/cloudevents+json"


def document(told: Sequence[Message]) -> Json:
    """The whole document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Quarry events",
            "version": "1.0.0",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"redis": _server()},
        "channels": {stream: _channel(stream, entries) for stream, entries in streams(told).items()},
        "operations": _operations(told),
        "components": {
            "messages": {message.kind: _message(message) for message in told},
            "schemas": {"Envelope": envelope_schema(), **{message.name: _payload(message) for message in told}},
            "securitySchemes": {
                "account": {
                    "type": "userPassword",
                    "description": "One Redis user per service, with only its streams, keys and commands.",
                }
            },
        },
    }


def _server() -> Json:
    return {
        "host": "{host}:{port}",
        "protocol": "redis",
        "description": "Redis 8.2 or newer, `maxmemory-policy noeviction`.",
        "variables": {"host": {"default": "localhost"}, "port": {"default": "6379"}},
        "security": [{"$ref": "#/components/securitySchemes/account"}],
    }


def _channel(stream: str, entries: Sequence[Message]) -> Json:
    events = all(message.is_event for message in entries)
    kept = (
        "Entries stay until every consumer group has acknowledged them."
        if events
        else "Trimmed by length; an entry that is not read in time is lost."
    )
    return {
        "address": stream,
        "title": stream,
        "description": f"Redis stream written by {', '.join(entries[0].producers)}. {kept}",
        "messages": {message.name: {"$ref": f"#/components/messages/{_pointer(message.kind)}"} for message in entries},
        "x-stream-field": entries[0].field,
    }


def _operations(told: Sequence[Message]) -> Json:
    found: Json = {}
    for stream, entries in streams(told).items():
        for service in entries[0].producers:
            found[f"{service}.send.{stream}"] = _operation("send", stream, entries, f"{service} writes {stream}.")
        for service in _those(message.handled_by for message in entries):
            wanted = [message for message in entries if service in message.handled_by]
            summary = f"{service} reads {stream} in its consumer group."
            found[f"{service}.receive.{stream}"] = {
                **_operation("receive", stream, wanted, summary),
                "x-consumer-group": service,
            }
        for service in _those(message.followed_by for message in entries):
            wanted = [message for message in entries if service in message.followed_by]
            summary = f"Every process of {service} reads {stream} without a consumer group."
            found[f"{service}.follow.{stream}"] = {
                **_operation("receive", stream, wanted, summary),
                "x-consumer-group": None,
            }
    return found


def _operation(action: str, stream: str, entries: Sequence[Message], summary: str) -> Json:
    channel = f"#/channels/{_pointer(stream)}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "summary": summary,
        "messages": [{"$ref": f"{channel}/messages/{message.name}"} for message in entries],
    }


def _message(message: Message) -> Json:
    told: Json = {
        "name": message.kind,
        "title": message.name,
        "summary": message.what,
        "description": f"Sent: {message.sent}\n\nFor: {message.whom}",
        "contentType": _CLOUD_EVENT if message.is_event else "application/json",
        "payload": {"$ref": f"#/components/schemas/{message.name}"},
        "examples": [{"payload": message.example}],
    }
    if message.is_event:
        told["payload"] = _enveloped(message)
        told["correlationId"] = {"location": "$message.payload#/correlationid"}
    return told


def _enveloped(message: Message) -> Json:
    return {
        "allOf": [
            {"$ref": "#/components/schemas/Envelope"},
            {
                "type": "object",
                "properties": {
                    "type": {"const": message.kind},
                    "source": {"const": f"/quarry/{producer_of(message.kind)}"},
                    "data": {"$ref": f"#/components/schemas/{message.name}"},
                },
            },
        ]
    }


def _payload(message: Message) -> Schema:
    return {**schema_of(message.model), "description": message.what}


def _those(names: Iterable[Sequence[str]]) -> list[str]:
    return sorted({name for several in names for name in several})


def _pointer(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
