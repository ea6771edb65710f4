"""Dependencies of this service's routers, besides `shared.http`."""

from typing import Annotated

from fastapi import Depends, Header, Request

from services.projects.blobs import BlobStore
from services.projects.tenants.service import Quotas
from shared.auth import Principal
from shared.authority_client import Authority
from shared.http import operation
from shared.service_permissions import Operation

IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=512)]


async def _blob_store(request: Request) -> BlobStore:
    store: BlobStore = request.app.state.blobs
    return store


async def _max_document_bytes(request: Request) -> int:
    limit: int = request.app.state.max_document_bytes
    return limit


async def _quotas(request: Request) -> Quotas:
    quotas: Quotas = request.app.state.quotas
    return quotas


async def _authority(request: Request) -> Authority:
    found: Authority = request.app.state.runtime.authority
    return found


Blobs = Annotated[BlobStore, Depends(_blob_store)]
TenantQuotas = Annotated[Quotas, Depends(_quotas)]
CurrentAuthority = Annotated[Authority, Depends(_authority)]
MaxDocumentBytes = Annotated[int, Depends(_max_document_bytes)]
AccessReader = Annotated[Principal, operation(Operation.READ_PROJECT_ACCESS)]
ContentReader = Annotated[Principal, operation(Operation.READ_DOCUMENT_CONTENT)]
