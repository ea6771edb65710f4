"""What routers of this service ask for besides `shared.http`."""

from typing import Annotated

from fastapi import Depends, Header, Request

from services.projects.blobs import BlobStore
from services.projects.transactions import Transactions
from shared.auth import Principal, PrincipalKind
from shared.errors import Forbidden, NotFound
from shared.http import CurrentPrincipal, request_id_of

IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=512)]


async def _tenant_transactions(request: Request, principal: CurrentPrincipal) -> Transactions:
    """Begins transactions bound to the caller's active tenant."""
    if principal.tenant_id is None:
        raise Forbidden("Choose an active tenant first.")
    return Transactions(
        database=request.app.state.runtime.database,
        tenant_id=principal.tenant_id,
        user_id=principal.user_id,
        correlation_id=request_id_of(request),
    )


async def _blob_store(request: Request) -> BlobStore:
    store: BlobStore = request.app.state.blobs
    return store


async def _max_document_bytes(request: Request) -> int:
    limit: int = request.app.state.max_document_bytes
    return limit


async def _service_caller(principal: CurrentPrincipal) -> Principal:
    """A neighbouring service; for everybody else internal routes do not exist."""
    if principal.kind is not PrincipalKind.SERVICE:
        raise NotFound
    return principal


TenantTransactions = Annotated[Transactions, Depends(_tenant_transactions)]
Blobs = Annotated[BlobStore, Depends(_blob_store)]
MaxDocumentBytes = Annotated[int, Depends(_max_document_bytes)]
ServiceCaller = Annotated[Principal, Depends(_service_caller)]
