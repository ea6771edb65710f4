"""Dependencies of this service's routers, besides the caller and the sessions."""

import sys
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request

from services.projects.blobs.store import BlobStore
from services.projects.tenants.service import Quotas
from services.projects.upload_turns import Turns
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


Blobs = Annotated[BlobStore, Depends(_blob_store)]
TenantQuotas = Annotated[Quotas, Depends(_quotas)]
ContentTurns = Annotated[FairSemaphore, Depends(_content_turns)]
CurrentAuthority = Annotated[Authority, Depends(_authority)]
MaxDocumentBytes = Annotated[int, Depends(_max_document_bytes)]
AccessReader = Annotated[Principal, operation(Operation.READ_PROJECT_ACCESS)]
ContentReader = Annotated[Principal, operation(Operation.READ_DOCUMENT_CONTENT)]
