"""HTTP routes of search."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Body, Response

from services.indexing.search import service
from services.indexing.search.dependencies import Search
from services.indexing.search.schemas import SearchRequest, SearchResponse
from shared.current_principal import CurrentPrincipal
from shared.deferred_parsing import Unparsed, UnparsedRoute

router = APIRouter(prefix="/v1/projects/{project_id}", tags=["Search"], route_class=UnparsedRoute)


@router.post("/search", response_model=SearchResponse)
async def search(
    project_id: uuid.UUID,
    request: Annotated[Unparsed[SearchRequest], Body()],
    principal: CurrentPrincipal,
    engine: Search,
) -> Response:
    """Find passages by meaning, by words, or by both."""
    found = await service.search(engine, principal, project_id=project_id, request=request)
    return Response(found, media_type="application/json")
