"""What an agent takes and gives never changes within a version: clients are written against it.

`QUARRY_WRITE_AGENTS=1` writes the files of new versions.
"""

import os
from pathlib import Path

import orjson
import pytest

from services.indexing.agents.agent import Agent
from services.indexing.agents.catalogue import AGENTS
from services.indexing.agents.router import agent_out

GOLDEN = Path(__file__).parent / "agents"


def path_of(agent: Agent) -> Path:
    return GOLDEN / f"{agent.name}.v{agent.version}.json"


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_the_contract_is_what_was_published(agent: Agent) -> None:
    contract = agent_out(agent).model_dump(mode="json", include={"name", "version", "input", "output"})
    if os.environ.get("QUARRY_WRITE_AGENTS") and not path_of(agent).exists():
        path_of(agent).write_bytes(orjson.dumps(contract, option=orjson.OPT_INDENT_2) + b"\n")
    assert orjson.loads(path_of(agent).read_bytes()) == contract


def test_there_is_no_file_of_an_agent_that_is_gone() -> None:
    newest = {agent.name: agent.version for agent in AGENTS}
    names = {path.name.split(".")[0] for path in GOLDEN.iterdir()}
    assert names == newest.keys()
