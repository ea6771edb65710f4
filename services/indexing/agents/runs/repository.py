"""SQL of runs within one tenant. The queue, which spans tenants, is in `turns.py`.

A run that was given the text of a document is not there once that document is deleted, even before its rows are gone.
"""

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ARRAY, Uuid, bindparam, delete, exists, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.agents.runs.models import UNFINISHED, Run, RunDocument, RunStep, RunTurn
from services.indexing.documents.models import Document
from shared.tenancy import inserting

_INTACT: Final = ~exists(
    select(RunDocument.run_id)
    .join(Document, Document.document_id == RunDocument.document_id)
    .where(RunDocument.run_id == Run.id, RunDocument.tenant_id == Run.tenant_id, Document.deleted)
)
_OF_RUN: Final = Run.id == bindparam("run_id", type_=Uuid())
_BY_ID: Final = select(Run).where(_OF_RUN)
_IN_PROJECT: Final = _BY_ID.where(Run.project_id == bindparam("project_id", type_=Uuid()), _INTACT)
_LOCKED: Final = _BY_ID.with_for_update().execution_options(populate_existing=True)
_STATUS: Final = select(Run.status).where(_OF_RUN)
_STEPS: Final = (
    select(RunStep)
    .where(RunStep.run_id == bindparam("run_id", type_=Uuid()))
    .order_by(RunStep.position)
    .execution_options(populate_existing=True)
)
_RESERVE: Final = (
    update(Run)
    .where(
        _OF_RUN,
        Run.model_calls < Run.model_calls_limit,
        Run.model_tokens + bindparam("tokens") <= Run.model_tokens_limit,
    )
    .values(model_calls=Run.model_calls + 1, model_tokens=Run.model_tokens + bindparam("tokens"))
    .returning(Run.model_calls)
    .execution_options(synchronize_session=False)
)
_SETTLE: Final = (
    update(Run)
    .where(_OF_RUN)
    .values(
        model_tokens=Run.model_tokens - bindparam("unused"),
        input_tokens=Run.input_tokens + bindparam("used_input"),
        output_tokens=Run.output_tokens + bindparam("used_output"),
    )
    .execution_options(synchronize_session=False)
)
_ADD_DOCUMENTS: Final = (
    inserting(RunDocument)
    .from_select(
        ["run_id", "document_id"],
        select(bindparam("run_id", type_=Uuid()), func.unnest(bindparam("documents", type_=ARRAY(Uuid())))),
        include_defaults=False,
    )
    .on_conflict_do_nothing()
)
_UNFINISHED: Final = select(func.count()).select_from(RunTurn).where(RunTurn.ended.is_(False))


async def add(session: AsyncSession, run: Run) -> None:
    """Insert a run, and its place in the queue."""
    session.add(run)
    await session.flush()
    session.add(RunTurn(run_id=run.id))
    await session.flush()


async def unfinished(session: AsyncSession) -> int:
    """How many runs of the tenant have not ended."""
    return await session.scalar(_UNFINISHED) or 0


async def in_project(session: AsyncSession, project_id: uuid.UUID, run_id: uuid.UUID) -> Run | None:
    run: Run | None = await session.scalar(_IN_PROJECT, {"run_id": run_id, "project_id": project_id})
    return run


async def locked(session: AsyncSession, run_id: uuid.UUID) -> Run | None:
    """The run, locked until the transaction ends; its turn is locked before it."""
    run: Run | None = await session.scalar(_LOCKED, {"run_id": run_id})
    return run


async def turn_of(session: AsyncSession, run_id: uuid.UUID) -> RunTurn | None:
    """The run's place in the queue, locked until the transaction ends."""
    return (
        await session.scalars(
            select(RunTurn).where(RunTurn.run_id == run_id).with_for_update().execution_options(populate_existing=True)
        )
    ).one_or_none()


async def status(session: AsyncSession, run_id: uuid.UUID) -> str | None:
    return await session.scalar(_STATUS, {"run_id": run_id})


async def page_for_project(
    session: AsyncSession, project_id: uuid.UUID, *, before: tuple[datetime, uuid.UUID] | None, limit: int
) -> Sequence[Run]:
    """Newest first."""
    statement = (
        select(Run)
        .where(Run.project_id == project_id, _INTACT)
        .order_by(Run.created_at.desc(), Run.id.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(tuple_(Run.created_at, Run.id) < before)
    return (await session.scalars(statement)).all()


async def remove(session: AsyncSession, run_id: uuid.UUID) -> None:
    """Delete a run with its journal and its place in the queue."""
    for table, condition in ((RunTurn, RunTurn.run_id == run_id), (Run, Run.id == run_id)):
        await session.execute(delete(table).where(condition), execution_options={"synchronize_session": False})


# --- the journal -----------------------------------------------------------------------------------------------------


async def steps(session: AsyncSession, run_id: uuid.UUID) -> Sequence[RunStep]:
    return (await session.scalars(_STEPS, {"run_id": run_id})).all()


async def add_documents(session: AsyncSession, run_id: uuid.UUID, documents: Collection[uuid.UUID]) -> None:
    """Record that the run is given the text of these documents."""
    await session.execute(_ADD_DOCUMENTS, {"run_id": run_id, "documents": sorted(documents)})


async def keep_documents(session: AsyncSession, documents: Collection[uuid.UUID]) -> bool:
    """Keep the documents from being deleted until the transaction ends; whether none of them is."""
    if not documents:
        return True
    kept = (
        select(Document.document_id)
        .where(Document.document_id.in_(documents), Document.deleted.is_(False))
        .order_by(Document.document_id)
        .with_for_update(read=True)
    )
    return len((await session.scalars(kept)).all()) == len(set(documents))


# --- budgets ---------------------------------------------------------------------------------------------------------


async def reserve(session: AsyncSession, run_id: uuid.UUID, *, tokens: int) -> int | None:
    """Count one more call of at most `tokens` tokens; its number, or None where the budget does not allow it."""
    number: int | None = await session.scalar(_RESERVE, {"run_id": run_id, "tokens": tokens})
    return number


async def settle(
    session: AsyncSession, run_id: uuid.UUID, *, unused: int, input_tokens: int, output_tokens: int
) -> None:
    values = {"run_id": run_id, "unused": unused, "used_input": input_tokens, "used_output": output_tokens}
    await session.execute(_SETTLE, values)


# --- documents and tenants that are deleted --------------------------------------------------------------------------


async def unfinished_with(session: AsyncSession, document_id: uuid.UUID) -> Sequence[uuid.UUID]:
    """Unfinished runs that were given text of the document."""
    return (
        await session.scalars(
            select(RunDocument.run_id)
            .join(Run, Run.id == RunDocument.run_id)
            .where(RunDocument.document_id == document_id, Run.status.in_(UNFINISHED))
            .order_by(RunDocument.run_id)
        )
    ).all()


async def has_given(session: AsyncSession, document_id: uuid.UUID) -> bool:
    """Whether there is a run that was given text of the document."""
    return bool(await session.scalar(select(exists(RunDocument.run_id).where(RunDocument.document_id == document_id))))


async def unfinished_in(session: AsyncSession, project_id: uuid.UUID | None) -> Sequence[uuid.UUID]:
    """Unfinished runs of a project, or of the whole tenant."""
    statement = select(Run.id).where(Run.status.in_(UNFINISHED))
    if project_id is not None:
        statement = statement.where(Run.project_id == project_id)
    return (await session.scalars(statement.order_by(Run.id))).all()


async def forget_soon(session: AsyncSession, document_id: uuid.UUID | None) -> None:
    """Have workers remove the runs that were given text of the document, or all runs of the tenant."""
    statement = update(RunTurn).values(ended=True, due_at=func.now(), attempts=0)
    if document_id is not None:
        given = select(RunDocument.run_id).where(RunDocument.document_id == document_id)
        statement = statement.where(RunTurn.run_id.in_(given))
    await session.execute(statement, execution_options={"synchronize_session": False})
