"""CloudEvents 1.0 (JSON event format) around a frozen payload.

Attributes: `id` (uuid7), `source` (`/quarry/<service>`), `type` (`<service>.<noun>.<verb>.v<n>`), `subject` (the
aggregate), `time`, and the extensions `tenantid`, `traceparent`, `correlationid`, `causationid` and `sequence` (the
aggregate's version after the change: consumers compare it, none relies on the order of arrival).

Additive optional fields keep a version; anything else is a new class beside the old one. A consumer ignores fields it
does not know. A golden file under `tests/contracts/golden/` holds each version to what was once published.
"""

import re
import uuid
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

NO_TENANT: Final = uuid.UUID(int=0)
"""`tenantid` of an event about a user without an active tenant: no tenant has this id."""

TYPE_PATTERN = re.compile(r"^(?P<producer>[a-z]+)\.(?P<name>[a-z_.]+)\.v(?P<version>[1-9][0-9]*)$")
_REGISTRY: dict[str, type["Event"]] = {}


class Event(BaseModel):
    """Base of every event: frozen facts. A subclass names its `type` and the field that identifies its aggregate.

    Its docstring says what happened, then in paragraphs of their own `Sent:` when, and `For:` whom, which is who may
    rely on it and how. Each field has a docstring. `docs/events.md` is made of them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    type: ClassVar[str]
    subject_field: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declared = cls.__dict__.get("type")
        if declared is None:
            return
        if not TYPE_PATTERN.match(declared) or declared in _REGISTRY:
            raise TypeError(f"{cls.__name__}.type is malformed or taken: {declared!r}")
        _REGISTRY[declared] = cls

    @property
    def subject(self) -> str:
        return str(getattr(self, self.subject_field))


class Envelope(BaseModel):
    """One event as it travels: a CloudEvent in JSON. Attributes without a value are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    specversion: Literal["1.0"] = "1.0"
    """CloudEvents version."""
    id: uuid.UUID
    """Id of the event, a uuid7; the same on every delivery. Consumers store it to detect duplicates."""
    source: str
    """The service that published it, `/quarry/<service>`."""
    type: str
    """What happened, and the version of its schema: `<service>.<noun>.<verb>.v<n>`."""
    subject: str
    """Id of the aggregate it happened to; which field of `data` holds it depends on the type."""
    time: datetime
    """When it happened, in UTC."""
    datacontenttype: Literal["application/json"] = "application/json"
    """Media type of `data`."""
    tenantid: uuid.UUID
    """The tenant it belongs to. Never taken from `data`."""
    sequence: int = Field(ge=0)
    """Version of the aggregate after the change. Consumers ignore an event no newer than the last one applied."""
    traceparent: str | None = None
    """The trace it belongs to (W3C Trace Context)."""
    correlationid: str | None = None
    """`X-Request-ID` of the request that started the chain of events."""
    causationid: str | None = None
    """Id of the event whose handling caused this one."""
    data: dict[str, Any]
    """The payload, in the schema of the type."""

    @classmethod
    def wrap(
        cls,
        event: Event,
        *,
        event_id: uuid.UUID,
        tenant_id: uuid.UUID,
        sequence: int,
        traceparent: str | None,
        correlation_id: str | None,
        causation_id: str | None,
    ) -> Self:
        return cls(
            id=event_id,
            source=source_of(event.type),
            type=event.type,
            subject=event.subject,
            time=datetime.now(UTC),
            tenantid=tenant_id,
            sequence=sequence,
            traceparent=traceparent,
            correlationid=correlation_id,
            causationid=causation_id,
            data=event.model_dump(mode="json"),
        )

    def to_json(self) -> bytes:
        return orjson.dumps(self.model_dump(mode="json", exclude_none=True))

    @classmethod
    def from_json(cls, raw: bytes) -> Self:
        """Parse an envelope.

        Raises:
            Undecodable: not JSON, or not a CloudEvent of this shape.
        """
        try:
            return cls.model_validate(orjson.loads(raw))
        except (ValidationError, orjson.JSONDecodeError) as error:
            raise Undecodable(f"not a CloudEvent: {type(error).__name__}") from error

    @classmethod
    def from_stream(cls, raw: bytes, stream: str) -> Self:
        """Parse an entry of a stream. The right to write to a stream is the right to speak for its producer only.

        Raises:
            Undecodable: not a CloudEvent of this shape.
            ForeignEvent: the stream is not that of the type's producer, or the event names another sender.
        """
        envelope = cls.from_json(raw)
        producer = producer_of(envelope.type)
        if stream != f"events.{producer}" or envelope.source != source_of(envelope.type):
            raise ForeignEvent(f"{envelope.type} from {envelope.source!r} on {stream}")
        return envelope

    def payload(self) -> Event:
        """The typed payload.

        Raises:
            Undecodable: the type is unknown here, or the data does not fit it.
        """
        event_class = _REGISTRY.get(self.type)
        if event_class is None:
            raise Undecodable(f"unknown event type {self.type!r}")
        try:
            return event_class.model_validate(self.data)
        except ValidationError as error:
            raise Undecodable(f"{self.type} does not match its schema: {error.error_count()} errors") from error


class Undecodable(ValueError):
    """A stream entry that no retry can turn into an event."""


class ForeignEvent(Undecodable):
    """An event on a stream that its producer does not write to."""


def producer_of(event_type: str) -> str:
    """The service that publishes events of this type; also the name of its stream, `events.<producer>`."""
    return _parts_of(event_type)["producer"]


def source_of(event_type: str) -> str:
    """The `source` of such an event's envelope."""
    return f"/quarry/{producer_of(event_type)}"


def name_of(event_type: str) -> str:
    """The type without its version: `projects.document.uploaded`."""
    parts = _parts_of(event_type)
    return f"{parts['producer']}.{parts['name']}"


def _parts_of(event_type: str) -> re.Match[str]:
    match = TYPE_PATTERN.match(event_type)
    if match is None:
        raise Undecodable(f"malformed event type {event_type!r}")
    return match


def registered_events() -> dict[str, type[Event]]:
    """Every event class imported so far, by type."""
    return dict(sorted(_REGISTRY.items()))
