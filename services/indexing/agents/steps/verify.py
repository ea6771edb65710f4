"""Holding what was written against the stored text. Nothing is a citation before this step."""

from typing import Final

from services.indexing.agents.contracts import Answer
from services.indexing.agents.graph import NEXT, StepContext, StepResult
from services.indexing.agents.steps.answer import draft_of
from services.indexing.agents.steps.select import selected
from shared.events.indexing import RunCitationVerified

UNSUPPORTED: Final = "unsupported"
"""The edge of an answer of a model of which nothing is supported, and which has not been written again yet."""


async def verify(context: StepContext) -> StepResult:
    """The latest draft as an answer, with those of its quotes that were found."""
    repaired = context.outputs.get("repair")
    draft = draft_of(context.outputs["answer"] if repaired is None else repaired)
    found = await context.writing.verify(
        draft, await selected(context), context.knowledge, tenant_id=context.run.tenant_id
    )
    if context.writing.model is not None and repaired is None and _is_unsupported(found):
        return StepResult(found.model_dump(mode="json"), edge=UNSUPPORTED)
    return StepResult(
        found.model_dump(mode="json"),
        edge=NEXT,
        events=tuple(
            (RunCitationVerified, {"citation": citation.model_dump(mode="json")}) for citation in found.citations
        ),
    )


def _is_unsupported(answer: Answer) -> bool:
    return answer.refusal is None and answer.grounding == "none"
