"""What the door's router needs, besides `services.indexing.agents.dependencies`."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from services.indexing.agents.dependencies import AgentResources
from services.indexing.agents.mcp.door import Door
from shared.lifespan_state import resources_of


@dataclass(frozen=True, slots=True)
class McpResources(AgentResources):
    """The resources of a process that serves clients."""

    door: Door


async def _door(request: Request) -> Door:
    return resources_of(request, McpResources).door


OpenDoor = Annotated[Door, Depends(_door)]
