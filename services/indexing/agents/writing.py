"""Who writes in this installation, and who verifies what was written."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from services.indexing.agents import summaries, verification
from services.indexing.agents.answerers.base import Answerer, Draft
from services.indexing.agents.answerers.chat import ChatAnswerer
from services.indexing.agents.answerers.extractive import ExtractiveAnswerer
from services.indexing.agents.chat import ChatModel
from services.indexing.agents.contracts import Answer, Passage, Texts
from services.indexing.search.service import SearchEngine


class Verify(Protocol):
    """Finds which quotes of a draft stand in the stored text; see `agents.verification`."""

    async def __call__(
        self, draft: Draft, passages: Sequence[Passage], texts: Texts, *, tenant_id: uuid.UUID
    ) -> Answer: ...


class Summarise(Protocol):
    """Drafts a summary of passages, which are in the order in which they are to be read; see `agents.summaries`."""

    async def __call__(
        self, passages: Sequence[Passage], *, most: int, tenant_id: uuid.UUID, language: str | None
    ) -> Draft: ...


@dataclass(frozen=True, slots=True)
class Writing:
    """`model` names the model that the answerer calls, if it calls one."""

    answerer: Answerer
    summarise: Summarise
    verify: Verify
    model: str | None


def writing_of(search: SearchEngine, model: ChatModel | None) -> Writing:
    """Answers of the model, if there is one; else quotes from the documents, chosen with the bundled embedder."""
    answerer: Answerer = ExtractiveAnswerer(search.embedder, search.keywords, search.shares)
    if model is not None:
        answerer = ChatAnswerer(model)
    summarise = partial(summaries.summarise, embedder=search.embedder, shares=search.shares)
    return Writing(answerer, summarise, partial(_verify, search), model=None if model is None else model.name)


async def _verify(
    search: SearchEngine, draft: Draft, passages: Sequence[Passage], texts: Texts, *, tenant_id: uuid.UUID
) -> Answer:
    return await verification.verify(draft, passages, texts, compute=partial(search.shares.compute, tenant_id))
