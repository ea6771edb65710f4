"""HTTP routes of similar documents."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Body, Response

from services.indexing.documents.dependencies import Owner
from services.indexing.search.dependencies import Search
from services.indexing.search.similar import service
from services.indexing.search.similar.schemas import SimilarDocuments, SimilarRequest
from shared.current_principal import CurrentPrincipal
from shared.deferred_parsing import Unparsed, UnparsedRoute

router = APIRouter(
    prefix="/v1/projects/{project_id}/documents/{document_id}", tags=["Search"], route_class=UnparsedRoute
)


@router.post("/similar", response_model=SimilarDocuments)
async def find_similar(
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    request: Annotated[Unparsed[SimilarRequest], Body()],
    owner: Owner,
    principal: CurrentPrincipal,
    engine: Search,
) -> Response:
    """Find the documents of the project that are most like this one. Before it is indexed: 409 `not_indexed`."""
    found = await service.similar(
        engine, owner, principal, project_id=project_id, document_id=document_id, request=request
    )
    return Response(found, media_type="application/json")
