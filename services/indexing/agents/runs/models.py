"""Tables of runs, their journal, and the queue that they wait in."""

import uuid
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, PrimaryKeyConstraint, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from services.indexing.agents.contracts import Exhausted
from services.indexing.orm_base import Base
from shared.events.indexing import RunStatus
from shared.tenancy import TenantOwned

UNFINISHED: Final = ("queued", "running")
OnDisconnect = Literal["continue", "cancel"]


def _of_run() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant_id", "run_id"], ["runs.tenant_id", "runs.id"], ondelete="CASCADE")


class Run(TenantOwned, Base):
    """One execution of an agent for the caller whose claims are kept in `principal`; they hold no credential.

    `events` counts what was told of the run: each event carries the next number, so that they are gapless. Of the
    budget, `model_calls` and `model_tokens` are used, by calls under way in full; the other two are as models reported.
    """

    __tablename__ = "runs"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "id"),
        CheckConstraint(
            "status IN ('queued', 'running', 'completed', 'incomplete', 'failed', 'cancelled')", name="status"
        ),
        Index("ix_runs_tenant_id_project_id_created_at_id", "tenant_id", "project_id", "created_at", "id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(server_default=text("uuidv7()"))
    project_id: Mapped[uuid.UUID]
    user_id: Mapped[uuid.UUID | None]
    principal: Mapped[dict[str, Any]]
    agent: Mapped[str]
    agent_version: Mapped[int]
    input: Mapped[dict[str, Any]]
    on_disconnect: Mapped[OnDisconnect] = mapped_column(Text)
    status: Mapped[RunStatus] = mapped_column(Text, server_default=text("'queued'"))
    events: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))

    seconds_limit: Mapped[float]
    model_calls_limit: Mapped[int]
    model_tokens_limit: Mapped[int] = mapped_column(BigInteger)
    model_calls: Mapped[int] = mapped_column(server_default=text("0"))
    model_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    input_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    output_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))

    output: Mapped[dict[str, Any] | None]
    exhausted: Mapped[Exhausted | None] = mapped_column(Text)
    error_code: Mapped[str | None]
    error_reason: Mapped[str | None]
    traceparent: Mapped[str | None]
    correlation_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class RunStep(TenantOwned, Base):
    """The journal: one row per step that a run has begun. `output` is there once the step has ended, and is then never
    computed again. `fencing` is the end of the claim under which the row was last written; `input_hash` covers all that
    the step was given. `streamed`: text of the attempt under way was sent, so a further one has to take it back.
    """

    __tablename__ = "run_steps"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "run_id", "position"), _of_run())

    run_id: Mapped[uuid.UUID]
    position: Mapped[int]
    step: Mapped[str]
    attempt: Mapped[int]
    input_hash: Mapped[str]
    streamed: Mapped[bool] = mapped_column(server_default=text("false"))
    output: Mapped[dict[str, Any] | None]
    edge: Mapped[str | None]
    usage: Mapped[dict[str, Any] | None]
    fencing: Mapped[datetime]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class RunDocument(TenantOwned, Base):
    """A document whose text a run has been given: the run is gone when the document is."""

    __tablename__ = "run_documents"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "document_id", "run_id"),
        _of_run(),
        Index("ix_run_documents_tenant_id_run_id", "tenant_id", "run_id"),
    )

    run_id: Mapped[uuid.UUID]
    document_id: Mapped[uuid.UUID]


class RunTurn(TenantOwned, Base):
    """What is to be done next about a run: to execute it, or, once it has `ended`, to forget it. Ids only, since
    workers choose across tenants.

    `due_at` of a row being worked on is the end of the claim, which is the fencing token (`shared.work_queue`).
    """

    __tablename__ = "run_turns"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "run_id"),
        Index("ix_run_turns_due_at", "due_at"),
        Index("ix_run_turns_unfinished", "tenant_id", "due_at", postgresql_where=text("NOT ended")),
    )

    run_id: Mapped[uuid.UUID]
    ended: Mapped[bool] = mapped_column(server_default=text("false"))
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    due_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
