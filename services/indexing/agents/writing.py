"""Who writes in this installation, and who verifies what was written."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from services.indexing.agents.answerers import summaries
from services.indexing.agents.answerers.base import Answerer, Draft
from services.indexing.agents.answerers.chat import ChatAnswerer
from services.indexing.agents.answerers.extraction import ChatExtractor, Filled
from services.indexing.agents.answerers.extractive import ExtractiveAnswerer
from services.indexing.agents.chat.client import ChatModel
from services.indexing.agents.contracts import Answer, ModelBudget, Passage, Texts
from services.indexing.agents.forms import Object
from services.indexing.agents.quotes import verification
from services.indexing.search.engine import SearchEngine


class Verify(Protocol):
    """Finds which quotes of a draft stand in the stored text; see `agents.quotes.verification`."""

    async def __call__(
        self, draft: Draft, passages: Sequence[Passage], texts: Texts, *, tenant_id: uuid.UUID
    ) -> Answer: ...


class Summarise(Protocol):
    """Drafts a summary of passages, given in the order of reading; see `agents.answerers.summaries`."""

    async def __call__(
        self, passages: Sequence[Passage], *, most: int, tenant_id: uuid.UUID, language: str | None
    ) -> Draft: ...


class Extract(Protocol):
    """Fills in a form from passages; see `agents.answerers.extraction`."""

    async def __call__(
        self,
        form: Object,
        passages: Sequence[Passage],
        *,
        tenant_id: uuid.UUID,
        language: str | None,
        budget: ModelBudget,
    ) -> Filled: ...


@dataclass(frozen=True, slots=True)
class Writing:
    """`model` names the model that writes, if there is one; without it nothing is extracted."""

    answerer: Answerer
    summarise: Summarise
    verify: Verify
    extract: Extract | None
    model: str | None


def writing_of(search: SearchEngine, model: ChatModel | None) -> Writing:
    """Answers of the model, if there is one; else quotes from the documents, chosen with the bundled embedder."""
    answerer = ExtractiveAnswerer(search.embedders.target, search.shares)
    summarise = partial(summaries.summarise, embedder=search.embedders.target, shares=search.shares)
    verify = partial(_verify, search)
    if model is None:
        return Writing(answerer, summarise, verify, extract=None, model=None)
    return Writing(ChatAnswerer(model), summarise, verify, ChatExtractor(model), model.name)


async def _verify(
    search: SearchEngine, draft: Draft, passages: Sequence[Passage], texts: Texts, *, tenant_id: uuid.UUID
) -> Answer:
    return await verification.verify(draft, passages, texts, compute=partial(search.shares.compute, tenant_id))
