"""What the router of generations needs, besides `services.indexing.dependencies`."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from services.indexing.documents.dependencies import DocumentResources
from services.indexing.generations.identity import Identity
from shared.lifespan_state import resources_of


@dataclass(frozen=True, slots=True)
class GenerationResources(DocumentResources):
    """The resources of a process that knows what new generations are made with."""

    target: Identity


async def _target(request: Request) -> Identity:
    return resources_of(request, GenerationResources).target


Target = Annotated[Identity, Depends(_target)]
