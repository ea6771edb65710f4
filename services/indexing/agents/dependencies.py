"""What the routers of agents need, besides `services.indexing.dependencies`."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from services.indexing.agents.asking import Runs
from services.indexing.search.dependencies import SearchResources
from shared.lifespan_state import resources_of


@dataclass(frozen=True, slots=True)
class AgentResources(SearchResources):
    """The resources of a process that can start and execute runs."""

    runs: Runs


async def _runs(request: Request) -> Runs:
    return resources_of(request, AgentResources).runs


RunsDependency = Annotated[Runs, Depends(_runs)]
