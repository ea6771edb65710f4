"""HTTP routes of the catalogue of agents."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from services.indexing.agents.agent import Agent
from services.indexing.agents.catalogue import AGENTS, agent_named
from services.indexing.agents.runs.errors import AgentNotFound
from services.indexing.agents.runs.schemas import Budget
from shared.current_principal import CurrentPrincipal

router = APIRouter(prefix="/v1/agents", tags=["Agents"])


class AgentOut(BaseModel):
    """An agent. `input` and `output` are JSON Schemas (draft 2020-12)."""

    name: str
    version: int
    description: str
    needs_model: bool
    input: dict[str, Any]
    output: dict[str, Any]
    budget: Budget


class Agents(BaseModel):
    items: list[AgentOut]


@router.get("")
async def list_agents(_caller: CurrentPrincipal) -> Agents:
    """The agents of this installation."""
    return Agents(items=[agent_out(agent) for agent in AGENTS])


@router.get("/{agent}")
async def get_agent(agent: str, _caller: CurrentPrincipal) -> AgentOut:
    """One agent with its contract."""
    found = agent_named(agent)
    if found is None:
        raise AgentNotFound
    return agent_out(found)


def agent_out(agent: Agent) -> AgentOut:
    limits = agent.budget
    return AgentOut(
        name=agent.name,
        version=agent.version,
        description=agent.description,
        needs_model=agent.needs_model,
        input=agent.input.model_json_schema(),
        output=agent.output.model_json_schema(mode="serialization"),
        budget=Budget(seconds=limits.seconds, model_calls=limits.model_calls, model_tokens=limits.model_tokens),
    )
