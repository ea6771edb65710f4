"""Who writes answers and who verifies them in this installation."""

from dataclasses import dataclass

import aiohttp

from services.indexing.agents.answerers.base import Answerer
from services.indexing.agents.graph import Verify
from services.indexing.search.service import SearchEngine
from services.indexing.settings import IndexingSettings


@dataclass(frozen=True, slots=True)
class Writing:
    """`model` names the model that the answerer calls, if it calls one."""

    answerer: Answerer
    verify: Verify
    model: str | None


def writing_of(settings: IndexingSettings, search: SearchEngine, http: aiohttp.ClientSession) -> Writing:
    raise NotImplementedError
