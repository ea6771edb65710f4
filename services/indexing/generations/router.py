"""HTTP routes of generations: index a project again, watch it, give it up, go back."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Header, Path

from services.indexing.dependencies import Directory, Wake
from services.indexing.generations import views
from services.indexing.generations.dependencies import Target
from services.indexing.generations.schemas import GenerationOut, Generations
from shared.current_principal import CurrentPrincipal
from shared.session_dependencies import TenantSession
from shared.tenancy import after_commit

router = APIRouter(prefix="/v1/projects/{project_id}/reindex", tags=["Re-indexing"])

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]


@router.post("", status_code=202)
async def reindex(
    project_id: uuid.UUID,
    directory: Directory,
    session: TenantSession,
    principal: CurrentPrincipal,
    target: Target,
    wake: Wake,
    idempotency_key: Key = None,
) -> GenerationOut:
    """Index the project again beside its present index, which search uses until the new one is complete."""
    after_commit(session, wake)
    return await views.request(session, principal, directory, project_id=project_id, target=target, key=idempotency_key)


@router.get("")
async def list_generations(
    project_id: uuid.UUID, directory: Directory, session: TenantSession, principal: CurrentPrincipal
) -> Generations:
    """The project's indexes: the one that search uses, the one being built, the one before."""
    return await views.generations(session, principal, directory, project_id=project_id)


@router.post("/rollback", status_code=202)
async def roll_back(
    project_id: uuid.UUID, directory: Directory, session: TenantSession, principal: CurrentPrincipal, wake: Wake
) -> GenerationOut:
    """Return to the index before, as soon as it has what was uploaded since."""
    after_commit(session, wake)
    return await views.roll_back(session, principal, directory, project_id=project_id)


@router.get("/{generation}")
async def read_generation(
    project_id: uuid.UUID,
    generation: Number,
    directory: Directory,
    session: TenantSession,
    principal: CurrentPrincipal,
) -> GenerationOut:
    """One of them, with its progress."""
    return await views.generation(session, principal, directory, project_id=project_id, number=generation)


@router.post("/{generation}/cancel", status_code=202)
async def cancel(
    project_id: uuid.UUID,
    generation: Number,
    directory: Directory,
    session: TenantSession,
    principal: CurrentPrincipal,
    wake: Wake,
) -> GenerationOut:
    """Give up an index that is being built."""
    after_commit(session, wake)
    return await views.cancel(session, principal, directory, project_id=project_id, number=generation)
