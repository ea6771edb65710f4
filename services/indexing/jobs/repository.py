"""SQL of jobs within one tenant. Choice and leases, which span tenants, are in `leases.py`."""

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import SQLColumnExpression, bindparam, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from services.indexing.documents.models import Document
from services.indexing.jobs.errors import LeaseLost
from services.indexing.jobs.leases import Lease
from services.indexing.jobs.models import RUNNING, UNFINISHED, Job
from shared.events.indexing import Stage
from shared.tenancy import inserting


@cache
def _add(*names: str) -> ReturningInsert[uuid.UUID]:
    statement = inserting(Job).values({name: bindparam(f"new_{name}") for name in names})
    return statement.on_conflict_do_nothing(index_elements=["tenant_id", "document_id", "version"]).returning(
        statement.table.c.id
    )


async def add(session: AsyncSession, **values: Any) -> uuid.UUID | None:
    """Insert the job of a version; None when it has one."""
    job_id: uuid.UUID | None = await session.scalar(
        _add(*values), {f"new_{name}": value for name, value in values.items()}
    )
    return job_id


_LOCKED: Final = (
    select(Job)
    .where(Job.document_id == bindparam("document_id"), Job.version == bindparam("version"))
    .with_for_update()
    .execution_options(populate_existing=True)
)


async def locked(session: AsyncSession, document_id: uuid.UUID, version: int) -> Job | None:
    """The job of a version, locked until the transaction ends."""
    job: Job | None = await session.scalar(_LOCKED, {"document_id": document_id, "version": version})
    return job


async def by_id(session: AsyncSession, project_id: uuid.UUID, job_id: uuid.UUID) -> Job | None:
    job: Job | None = await session.scalar(select(Job).where(Job.id == job_id, Job.project_id == project_id))
    return job


async def unfinished_of(
    session: AsyncSession, document_id: uuid.UUID, *, before_version: int | None = None
) -> Sequence[Job]:
    """Jobs of the document that are waiting or running, locked; with `before_version` only those of older versions."""
    statement = select(Job).where(Job.document_id == document_id, Job.state.in_(UNFINISHED))
    if before_version is not None:
        statement = statement.where(Job.version < before_version)
    return (await session.scalars(statement.order_by(Job.id).with_for_update())).all()


async def unfinished_versions(session: AsyncSession, document_id: uuid.UUID) -> set[int]:
    return set(
        await session.scalars(select(Job.version).where(Job.document_id == document_id, Job.state.in_(UNFINISHED)))
    )


async def request_stop(session: AsyncSession) -> None:
    """Request a stop of every running job of the tenant."""
    await session.execute(
        update(Job)
        .where(Job.state.in_(RUNNING))
        .values(cancel_requested=True)
        .execution_options(synchronize_session=False)
    )


@cache
def _advance(*names: str) -> ReturningUpdate[int, str | None, list[str] | None]:
    return (
        update(Job)
        .where(Job.id == bindparam("job_id"), Job.fencing_token == bindparam("token"), Job.state.in_(RUNNING))
        .values(revision=Job.revision + bindparam("events"), **{name: bindparam(f"new_{name}") for name in names})
        .returning(Job.revision, Job.title, Job.partly_read)
        .execution_options(synchronize_session=False)
    )


class Advanced(NamedTuple):
    """A job after a change: its revision, and what reading the version told."""

    revision: int
    title: str | None
    partly_read: list[str] | None


async def advance(session: AsyncSession, lease: Lease, *, events: int = 0, **changes: Any) -> Advanced:
    """Change the leased job, whose revision grows by `events`.

    Args:
        changes: new values of columns, or expressions.

    Raises:
        LeaseLost: a newer lease exists, or the job is over.
    """
    expressions = {name: value for name, value in changes.items() if isinstance(value, SQLColumnExpression)}
    values = {f"new_{name}": value for name, value in changes.items() if name not in expressions}
    statement = _advance(*(name for name in changes if name not in expressions))
    changed = await session.execute(
        statement.values(**expressions) if expressions else statement,
        {"job_id": lease.job_id, "token": lease.token, "events": events, **values},
    )
    row = changed.one_or_none()
    if row is None:
        raise LeaseLost
    revision, title, partly_read = row
    return Advanced(revision, title, partly_read)


async def forget_titles(session: AsyncSession, document_id: uuid.UUID) -> None:
    """Forget what reading a deleted document told."""
    await session.execute(
        update(Job)
        .where(Job.document_id == document_id, Job.title.is_not(None))
        .values(title=None)
        .execution_options(synchronize_session=False)
    )


# --- reading ---------------------------------------------------------------------------------------------------------

_VISIBLE = Document.deleted.is_(False)


async def page_for_project(
    session: AsyncSession,
    project_id: uuid.UUID,
    *,
    states: Collection[Stage] = (),
    before: tuple[datetime, uuid.UUID] | None,
    limit: int,
) -> Sequence[Job]:
    """Newest first, of documents that are not deleted."""
    statement = (
        select(Job)
        .join(Document, Document.document_id == Job.document_id)
        .where(Job.project_id == project_id, _VISIBLE)
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(limit)
    )
    if states:
        statement = statement.where(Job.state.in_(states))
    if before is not None:
        statement = statement.where(tuple_(Job.created_at, Job.id) < before)
    return (await session.scalars(statement)).all()


async def running_in_project(session: AsyncSession, project_id: uuid.UUID, *, limit: int) -> Sequence[Job]:
    """Jobs under way, longest first."""
    return (
        await session.scalars(
            select(Job)
            .join(Document, Document.document_id == Job.document_id)
            .where(Job.project_id == project_id, Job.state.in_(RUNNING), _VISIBLE)
            .order_by(Job.started_at, Job.id)
            .limit(limit)
        )
    ).all()
