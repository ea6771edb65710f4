"""What an answerer says, gathered."""

import uuid
from collections.abc import Sequence

from services.indexing.agents.answerers.base import (
    Answerer,
    Draft,
    Finished,
    ProposedCitation,
    Refusal,
    TextDelta,
)
from services.indexing.agents.contracts import Answer, ModelBudget, Passage, Texts, Usage
from services.indexing.agents.quotes.verification import verify
from tests.services.indexing.agents.budgets import Budget
from tests.services.indexing.agents.stored_texts import at_once


async def drafted(
    answerer: Answerer,
    question: str,
    passages: Sequence[Passage],
    *,
    tenant_id: uuid.UUID,
    budget: ModelBudget | None = None,
) -> tuple[Draft, Usage | None]:
    text, citations, refusal = "", [], None
    async for piece in answerer.answer(
        question, passages, tenant_id=tenant_id, language=None, budget=budget or Budget()
    ):
        match piece:
            case TextDelta():
                text += piece.text
            case ProposedCitation():
                assert piece.claim_end <= len(text)
                citations.append(piece)
            case Refusal():
                refusal = piece.code
            case Finished():
                return Draft(text, tuple(citations), refusal), piece.usage
    raise AssertionError("an answer has no end")


async def answered(
    answerer: Answerer,
    question: str,
    passages: Sequence[Passage],
    texts: Texts,
    *,
    tenant_id: uuid.UUID,
    budget: ModelBudget | None = None,
) -> Answer:
    draft, _ = await drafted(answerer, question, passages, tenant_id=tenant_id, budget=budget)
    return await verify(draft, passages, texts, compute=at_once)
