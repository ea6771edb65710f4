"""Writing an answer, sent as it is written; and, once, writing it again when none of its quotes stood up."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import TypeAdapter

from services.indexing.agents.answerers.base import (
    AnswerPiece,
    Draft,
    Finished,
    ProposedCitation,
    Refusal,
    TextDelta,
)
from services.indexing.agents.contracts import AnswerInput, Usage
from services.indexing.agents.graph import StepContext, StepResult
from services.indexing.agents.steps.select import selected

_DRAFT: TypeAdapter[Draft] = TypeAdapter(Draft)


async def answer(context: StepContext) -> StepResult:
    """What the answerer writes about the selected passages."""
    asked = AnswerInput.model_validate(context.run.input)
    passages = await selected(context)
    pieces = context.writing.answerer.answer(
        asked.question, passages, tenant_id=context.run.tenant_id, language=asked.language, budget=context.budget
    )
    return await written(context, pieces)


async def written(context: StepContext, pieces: AsyncIterator[AnswerPiece]) -> StepResult:
    """The pieces as a draft; their text is sent on the way."""
    text: list[str] = []
    citations: list[ProposedCitation] = []
    refusal: str | None = None
    usage: Usage | None = None
    async with _closed(pieces):
        async for piece in pieces:
            match piece:
                case TextDelta():
                    text.append(piece.text)
                    await context.add_text(piece.text)
                case ProposedCitation():
                    citations.append(piece)
                case Refusal():
                    refusal = piece.code
                case Finished():
                    usage = piece.usage
    return StepResult(stored_draft(Draft("".join(text), tuple(citations), refusal)), usage=usage)


def stored_draft(draft: Draft) -> dict[str, Any]:
    """A draft as the output of a step."""
    stored: dict[str, Any] = _DRAFT.dump_python(draft, mode="json")
    return stored


def draft_of(output: Any) -> Draft:
    """The draft that a step has given."""
    return _DRAFT.validate_python(output)


@asynccontextmanager
async def _closed(pieces: AsyncIterator[AnswerPiece]) -> AsyncIterator[None]:
    """Close what the answerer holds open, such as a model's stream, as soon as the block ends for whatever reason."""
    try:
        yield
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()
