"""HTTP door of search."""

import uuid

from fastapi import APIRouter

from services.indexing.dependencies import Search
from services.indexing.search import service
from services.indexing.search.schemas import SearchRequest, SearchResponse
from shared.http import CurrentPrincipal

router = APIRouter(prefix="/v1/projects/{project_id}", tags=["search"])


@router.post("/search")
async def search(
    project_id: uuid.UUID, request: SearchRequest, principal: CurrentPrincipal, engine: Search
) -> SearchResponse:
    """Find passages by meaning, by words, or by both."""
    return await service.search(engine, principal, project_id=project_id, request=request)
