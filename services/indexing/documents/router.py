"""HTTP routes of documents' chunks."""

import uuid

from fastapi import APIRouter

from services.indexing.dependencies import Directory
from services.indexing.documents import views
from services.indexing.documents.dependencies import Owner
from services.indexing.documents.schemas import ChunkOut
from shared.current_principal import CurrentPrincipal
from shared.pagination import Cursor, Limit, Page
from shared.session_dependencies import CallerTransactions

router = APIRouter(prefix="/v1/projects/{project_id}/documents/{document_id}", tags=["Documents"])


@router.get("/chunks")
async def list_chunks(
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    directory: Directory,
    owner: Owner,
    transactions: CallerTransactions,
    principal: CurrentPrincipal,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[ChunkOut]:
    """The passages of the document in the order of its text: those of its live version, none before it is indexed.

    When a newer version has replaced the one that a cursor pages through: 409 `version_replaced`.
    """
    return await views.chunks(
        transactions,
        principal,
        directory,
        owner,
        project_id=project_id,
        document_id=document_id,
        cursor=cursor,
        limit=limit,
    )
