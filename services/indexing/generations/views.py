"""Generations as clients see them: access and shapes."""

import uuid

from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.generations import repository, service
from services.indexing.generations.errors import GenerationNotFound
from services.indexing.generations.identity import Identity
from services.indexing.generations.models import Generation
from services.indexing.generations.schemas import GenerationOut, GenerationProgress, Generations
from shared.auth import Principal, Scope
from shared.project_access import ProjectDirectory

_UNAVAILABLE = "The last step failed; it is tried again."


async def generations(
    session: AsyncSession, principal: Principal, directory: ProjectDirectory, *, project_id: uuid.UUID
) -> Generations:
    await directory.require(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_READ)
    rows = await repository.of_project(session, project_id)
    return Generations(items=[generation_out(row) for row in rows])


async def generation(
    session: AsyncSession, principal: Principal, directory: ProjectDirectory, *, project_id: uuid.UUID, number: int
) -> GenerationOut:
    await directory.require(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_READ)
    row = await repository.by_number(session, project_id, number)
    if row is None:
        raise GenerationNotFound
    return generation_out(row)


async def request(
    session: AsyncSession,
    principal: Principal,
    directory: ProjectDirectory,
    *,
    project_id: uuid.UUID,
    target: Identity,
    key: str | None,
) -> GenerationOut:
    """Index the project again, with what is used now."""
    await directory.require(session, principal, project_id=project_id, scope=Scope.PROJECTS_WRITE)
    return generation_out(await service.request(session, project_id=project_id, identity=target, key=key))


async def cancel(
    session: AsyncSession, principal: Principal, directory: ProjectDirectory, *, project_id: uuid.UUID, number: int
) -> GenerationOut:
    await directory.require(session, principal, project_id=project_id, scope=Scope.PROJECTS_WRITE)
    return await _as_written(session, await service.cancel(session, project_id=project_id, number=number))


async def roll_back(
    session: AsyncSession, principal: Principal, directory: ProjectDirectory, *, project_id: uuid.UUID
) -> GenerationOut:
    await directory.require(session, principal, project_id=project_id, scope=Scope.PROJECTS_WRITE)
    return await _as_written(session, await service.roll_back(session, project_id=project_id))


async def _as_written(session: AsyncSession, row: Generation) -> GenerationOut:
    await session.flush()
    await session.refresh(row)
    return generation_out(row)


def generation_out(row: Generation) -> GenerationOut:
    done = row.done if row.state == "building" else (row.total or row.done)
    percent = 100 if row.state in ("active", "kept") else 100 * done // row.total if row.total else 0
    return GenerationOut(
        generation=row.number,
        state=row.state,
        embedder=row.embedder,
        dimensions=row.dimensions,
        analyzer=row.analyzer,
        progress=GenerationProgress(done=done, total=row.total, percent=min(percent, 100)),
        # Its own words are for operators: they may quote an endpoint.
        error=_UNAVAILABLE if row.error else None,
        created_at=row.created_at,
        activated_at=row.activated_at,
        kept_until=row.kept_until,
        checked_at=row.checked_at,
    )
