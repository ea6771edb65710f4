"""What the router of documents' chunks needs, besides `services.indexing.dependencies`."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from services.indexing.dependencies import Resources
from services.indexing.documents.owner import DocumentOwner
from shared.lifespan_state import resources_of


@dataclass(frozen=True, slots=True)
class DocumentResources(Resources):
    """The resources of a process that answers questions about documents."""

    owner: DocumentOwner


async def _owner(request: Request) -> DocumentOwner:
    return resources_of(request, DocumentResources).owner


Owner = Annotated[DocumentOwner, Depends(_owner)]
