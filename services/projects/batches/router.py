"""HTTP routes of batches."""

import uuid

from fastapi import APIRouter, Response

from services.projects.batches import service
from services.projects.batches.models import Batch
from services.projects.batches.schemas import BatchCancelOut, BatchCreate, BatchOut
from services.projects.dependencies import TenantQuotas
from services.projects.documents.models import DocumentStatus
from services.projects.documents.schemas import DocumentOut
from shared.current_principal import CurrentPrincipal
from shared.etags import etag
from shared.pagination import Cursor, Limit, Page
from shared.session_dependencies import CallerTransactions, TenantSession

router = APIRouter(prefix="/v1/projects/{project_id}/batches", tags=["Batches"])


@router.post("", status_code=201)
async def create_batch(
    session: TenantSession,
    principal: CurrentPrincipal,
    quotas: TenantQuotas,
    project_id: uuid.UUID,
    body: BatchCreate,
    response: Response,
) -> BatchOut:
    """Begin a batch. Documents uploaded with `?batch=<id>` belong to it; they are indexed after those of others who
    upload without one. It is completed when it is closed and all of its documents have ended: `batch.completed` in the
    project's events."""
    batch = await service.create(
        session, principal, quotas, project_id=project_id, name=body.name, expected=body.expected
    )
    response.headers["Location"] = f"/v1/projects/{project_id}/batches/{batch.id}"
    return _answer(response, batch)


@router.get("")
async def list_batches(
    session: TenantSession, principal: CurrentPrincipal, project_id: uuid.UUID, limit: Limit = 50, cursor: Cursor = None
) -> Page[BatchOut]:
    """Batches of a project, newest first."""
    batches, next_cursor = await service.page(session, principal, project_id=project_id, limit=limit, cursor=cursor)
    return Page(items=[BatchOut.of(batch) for batch in batches], next_cursor=next_cursor)


@router.get("/{batch_id}")
async def get_batch(
    session: TenantSession, principal: CurrentPrincipal, project_id: uuid.UUID, batch_id: uuid.UUID, response: Response
) -> BatchOut:
    """One batch with its counts. With `If-None-Match`, polling costs a 304 while nothing has changed."""
    return _answer(response, await service.get(session, principal, project_id=project_id, batch_id=batch_id))


@router.get("/{batch_id}/items")
async def list_batch_items(
    session: TenantSession,
    principal: CurrentPrincipal,
    project_id: uuid.UUID,
    batch_id: uuid.UUID,
    status: DocumentStatus | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DocumentOut]:
    """Documents of a batch, newest first; `status=failed` shows what went wrong with each."""
    documents, next_cursor = await service.items(
        session, principal, project_id=project_id, batch_id=batch_id, status=status, limit=limit, cursor=cursor
    )
    return Page(items=[DocumentOut.of(document) for document in documents], next_cursor=next_cursor)


@router.post("/{batch_id}/close")
async def close_batch(
    session: TenantSession, principal: CurrentPrincipal, project_id: uuid.UUID, batch_id: uuid.UUID, response: Response
) -> BatchOut:
    """Say that all documents are uploaded. Uploads that have not ended yet are refused: 409 `batch_closed`."""
    return _answer(response, await service.close(session, principal, project_id=project_id, batch_id=batch_id))


@router.post("/{batch_id}/cancel", status_code=202)
async def cancel_batch(
    transactions: CallerTransactions,
    principal: CurrentPrincipal,
    project_id: uuid.UUID,
    batch_id: uuid.UUID,
    cursor: Cursor = None,
) -> BatchCancelOut:
    """Close a batch and cancel indexing of its unfinished documents, 500 of them at a time: while there is a
    `next_cursor`, send it as `?cursor=`."""
    batch, affected, next_cursor = await service.cancel(
        transactions, principal, project_id=project_id, batch_id=batch_id, cursor=cursor
    )
    return BatchCancelOut(batch=BatchOut.of(batch), affected=affected, next_cursor=next_cursor)


def _answer(response: Response, batch: Batch) -> BatchOut:
    response.headers["ETag"] = etag(batch.revision)
    return BatchOut.of(batch)
