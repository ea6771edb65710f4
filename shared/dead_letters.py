"""Quarantine for stream entries that cannot be handled: acknowledged only once their evidence is stored.

An entry arrives here at once when it cannot be decoded, and after `MAX_DELIVERIES` deliveries when its handler keeps
failing. Rows belong to the operator, not to a tenant: an entry that cannot be decoded has none. System access only.

A row is `open` until its event has been applied after all. `shared.redrive` takes it from `open` over `waiting` to
`redriven`, or back to `open` with the reason of the new failure; the first reason and the payload never change.

Payloads and reasons may hold tenants' data: a `Summary` holds none of it, a `Detail` has everything.
"""

import base64
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Index, LargeBinary, UniqueConstraint, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, defer, mapped_column

from shared.db import Identified, Model
from shared.tenancy import Database

MAX_DELIVERIES = 5
_LONGEST_REASON = 2000
# What follows the name of an error may quote the event.
_END_OF_ERROR_NAME = re.compile(r"[:'\"(\[\n]")

State = Literal["open", "waiting", "redriven"]


class DeadLetter(Identified, Model):
    """One quarantined entry for one handler, with everything needed to explain it and to try it again.

    `reason` is why it came here, `last_reason` why its last redrive failed. `attempts` counts deliveries and redrives,
    `redrives` the redrives alone. `redrive_requested_at` is set for as long as a redrive is wanted, `redrive_starts`
    and `redrive_leased_until` belong to that request.
    """

    __tablename__ = "dead_letters"
    __table_args__ = (
        UniqueConstraint("stream", "entry_id", "handler"),
        Index("ix_dead_letters_open", "created_at", "id", postgresql_where=text("redriven_at IS NULL")),
        Index(
            "ix_dead_letters_waiting",
            "redrive_requested_at",
            "id",
            postgresql_where=text("redrive_requested_at IS NOT NULL"),
        ),
        Index("ix_dead_letters_event_id", "event_id"),
    )

    stream: Mapped[str]
    entry_id: Mapped[str]
    consumer_group: Mapped[str]
    handler: Mapped[str]
    reason: Mapped[str]
    attempts: Mapped[int]
    tenant_id: Mapped[uuid.UUID | None]
    event_id: Mapped[uuid.UUID | None]
    event_type: Mapped[str | None]
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    redriven_at: Mapped[datetime | None]
    redrive_requested_at: Mapped[datetime | None]
    redrive_starts: Mapped[int] = mapped_column(server_default=text("0"))
    redrive_leased_until: Mapped[datetime | None]
    redrives: Mapped[int] = mapped_column(server_default=text("0"))
    last_reason: Mapped[str | None]
    last_failed_at: Mapped[datetime | None]

    @property
    def state(self) -> State:
        if self.redriven_at is not None:
            return "redriven"
        return "open" if self.redrive_requested_at is None else "waiting"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why an entry is quarantined. `handler` is `decode` when it never reached one."""

    stream: str
    entry_id: str
    consumer_group: str
    handler: str
    reason: str
    attempts: int
    payload: bytes
    tenant_id: uuid.UUID | None = None
    event_id: uuid.UUID | None = None
    event_type: str | None = None


async def quarantine(database: Database, evidence: Evidence) -> None:
    """Store the evidence; a second call for the same entry and handler changes nothing."""
    async with database.system() as session:
        await session.execute(
            insert(DeadLetter)
            .values(
                stream=evidence.stream,
                entry_id=evidence.entry_id,
                consumer_group=evidence.consumer_group,
                handler=evidence.handler,
                reason=storable(evidence.reason),
                attempts=evidence.attempts,
                payload=evidence.payload,
                tenant_id=evidence.tenant_id,
                event_id=evidence.event_id,
                event_type=None if evidence.event_type is None else storable(evidence.event_type),
            )
            .on_conflict_do_nothing()
        )


def storable(reason: str) -> str:
    """`reason` in a form Postgres accepts: a reason that cannot be stored must not keep its entry pending for ever."""
    return reason.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")[:_LONGEST_REASON]


def error_name(reason: str) -> str:
    """The name of the error, without the part that may quote the event."""
    return _END_OF_ERROR_NAME.split(reason, maxsplit=1)[0].strip()[:80]


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters; those of a redrive in progress count as open."""

    open_only: bool = True
    event_type: str | None = None
    handler: str | None = None

    def criteria(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.open_only:
            found.append(DeadLetter.redriven_at.is_(None))
        if self.event_type is not None:
            found.append(DeadLetter.event_type == self.event_type)
        if self.handler is not None:
            found.append(DeadLetter.handler == self.handler)
        return found


async def page(
    session: AsyncSession, wanted: Wanted, *, limit: int, before: tuple[datetime, uuid.UUID] | None = None
) -> Sequence[DeadLetter]:
    """Up to `limit` letters without their payloads, newest first; `before` is the position of the last one seen."""
    statement = (
        select(DeadLetter)
        .where(*wanted.criteria())
        .order_by(DeadLetter.created_at.desc(), DeadLetter.id.desc())
        .limit(limit)
        .options(defer(DeadLetter.payload, raiseload=True))
    )
    if before is not None:
        statement = statement.where(tuple_(DeadLetter.created_at, DeadLetter.id) < tuple_(*before))
    return (await session.scalars(statement)).all()


async def count(session: AsyncSession, wanted: Wanted) -> int:
    return int(await session.scalar(select(func.count()).select_from(DeadLetter).where(*wanted.criteria())) or 0)


async def by_id(session: AsyncSession, letter_id: uuid.UUID) -> DeadLetter | None:
    return await session.get(DeadLetter, letter_id)


# --- shapes ----------------------------------------------------------------------------------------------------------


class Summary(BaseModel):
    """A dead letter as it may be listed. `error` and `last_error` name the failure without quoting the event."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    state: State
    handler: str
    event_type: str | None
    event_id: uuid.UUID | None
    tenant_id: uuid.UUID | None
    stream: str
    entry_id: str
    attempts: int
    redrives: int
    error: str
    last_error: str | None
    created_at: datetime
    last_failed_at: datetime | None
    redriven_at: datetime | None


class Detail(Summary):
    """Everything about one dead letter. The payload as it was on the stream: text, or base64 when it is not UTF-8."""

    consumer_group: str
    reason: str
    last_reason: str | None
    redrive_requested_at: datetime | None
    payload: str
    payload_encoding: Literal["utf-8", "base64"]


def summary_of(letter: DeadLetter) -> Summary:
    return Summary.model_validate(_Seen(letter))


def detail_of(letter: DeadLetter) -> Detail:
    return Detail.model_validate(_Seen(letter))


class _Seen:
    """A row and the values its shapes derive from it."""

    def __init__(self, letter: DeadLetter) -> None:
        self._letter = letter

    def __getattr__(self, name: str) -> object:
        return getattr(self._letter, name)

    @property
    def error(self) -> str:
        return error_name(self._letter.reason)

    @property
    def last_error(self) -> str | None:
        return None if self._letter.last_reason is None else error_name(self._letter.last_reason)

    @property
    def payload(self) -> str:
        raw = self._letter.payload
        return raw.decode() if self.payload_encoding == "utf-8" else base64.b64encode(raw).decode()

    @property
    def payload_encoding(self) -> Literal["utf-8", "base64"]:
        try:
            self._letter.payload.decode()
        except UnicodeDecodeError:
            return "base64"
        return "utf-8"
