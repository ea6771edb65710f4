"""What search's router needs, besides `services.indexing.dependencies`."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from services.indexing.generations.dependencies import GenerationResources
from services.indexing.search.engine import SearchEngine
from shared.lifespan_state import resources_of


@dataclass(frozen=True, slots=True)
class SearchResources(GenerationResources):
    """The resources of a process that has an embedder and a vector store."""

    search: SearchEngine


async def _search_engine(request: Request) -> SearchEngine:
    return resources_of(request, SearchResources).search


Search = Annotated[SearchEngine, Depends(_search_engine)]
