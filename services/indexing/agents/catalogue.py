"""All agents. A new one is a file in `definitions` with its contract and its graph, and a line here."""

from typing import Final

from services.indexing.agents.agent import Agent
from services.indexing.agents.definitions.answer import ANSWER
from services.indexing.agents.definitions.extract import EXTRACT
from services.indexing.agents.definitions.summarise import SUMMARISE

AGENTS: Final = (ANSWER, SUMMARISE, EXTRACT)
_BY_NAME: Final = {agent.name: agent for agent in AGENTS}


def agent_named(name: str) -> Agent | None:
    return _BY_NAME.get(name)
