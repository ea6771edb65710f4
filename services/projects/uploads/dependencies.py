"""What routes of uploads depend on besides the caller."""

from typing import Annotated

from fastapi import Depends, Request

from services.projects.dependencies import Resources
from services.projects.uploads.receiving import Service
from shared.lifespan_state import resources_of


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


Uploads = Annotated[Service, Depends(_uploads)]
