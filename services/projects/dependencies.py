"""Dependencies of this service's routers, besides the caller and the sessions."""

import sys
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request

from services.projects.blobs.store import BlobStore
from services.projects.tenants.service import Quotas
from services.projects.uploads.arrivals import Turns
from services.projects.uploads.receiving import Service
from shared.auth import Principal
from shared.authority_client import Authority
from shared.current_principal import operation
from shared.fair_semaphore import FairSemaphore
from shared.lifespan_state import resources_of
from shared.service_permissions import Operation


@dataclass(frozen=True, slots=True)
class Resources:
    """What requests need of the running service. Made in `services.projects.resources`."""

    blobs: BlobStore
    quotas: Quotas
    max_document_bytes: int
    authority: Authority
    content_turns: FairSemaphore = field(default_factory=lambda: FairSemaphore(sys.maxsize, each=1))
    upload_turns: Turns = field(default_factory=Turns)
    upload_expiry: timedelta = timedelta(days=1)


async def _blob_store(request: Request) -> BlobStore:
    return resources_of(request, Resources).blobs


async def _max_document_bytes(request: Request) -> int:
    return resources_of(request, Resources).max_document_bytes


async def _quotas(request: Request) -> Quotas:
    return resources_of(request, Resources).quotas


async def _content_turns(request: Request) -> FairSemaphore:
    return resources_of(request, Resources).content_turns


async def _authority(request: Request) -> Authority:
    return resources_of(request, Resources).authority


async def _uploads(request: Request) -> Service:
    own = resources_of(request, Resources)
    return Service(
        authority=own.authority,
        blobs=own.blobs,
        quotas=own.quotas,
        content_turns=own.content_turns,
        turns=own.upload_turns,
        limit=own.max_document_bytes,
        lasting=own.upload_expiry,
    )


Blobs = Annotated[BlobStore, Depends(_blob_store)]
TenantQuotas = Annotated[Quotas, Depends(_quotas)]
ContentTurns = Annotated[FairSemaphore, Depends(_content_turns)]
CurrentAuthority = Annotated[Authority, Depends(_authority)]
MaxDocumentBytes = Annotated[int, Depends(_max_document_bytes)]
Uploads = Annotated[Service, Depends(_uploads)]
AccessReader = Annotated[Principal, operation(Operation.READ_PROJECT_ACCESS)]
ContentReader = Annotated[Principal, operation(Operation.READ_DOCUMENT_CONTENT)]
