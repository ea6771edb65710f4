"""What routers of this service ask for besides `shared.http`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Header, Request
from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.blobs import BlobStore
from services.projects.documents.service import Transactions
from shared.auth import Principal, PrincipalKind
from shared.errors import Forbidden, NotFound
from shared.http import CurrentPrincipal, request_id_of
from shared.telemetry import bind
from shared.tenancy import Database

IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=512)]


async def _tenant_transactions(request: Request, principal: CurrentPrincipal) -> Transactions:
    """Begins transactions bound to the caller's active tenant."""
    tenant_id = principal.tenant_id
    if tenant_id is None:
        raise Forbidden("Choose an active tenant first.")
    database: Database = request.app.state.runtime.database

    @asynccontextmanager
    async def begin() -> AsyncIterator[AsyncSession]:
        with bind(tenant_id=tenant_id, user_id=principal.user_id):
            async with database.tenant(tenant_id) as session:
                session.info["correlation_id"] = request_id_of(request)
                yield session

    return begin


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
