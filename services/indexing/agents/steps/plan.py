"""What to look for, from what was asked for. No model and no document has a say in it."""

from typing import Final

from services.indexing.agents.contracts import AnswerInput
from services.indexing.agents.graph import StepContext, StepResult

MOST_CANDIDATES: Final = 24
MOST_QUERY: Final = 2000


async def plan_answer(context: StepContext) -> StepResult:
    """The question itself is the query."""
    asked = AnswerInput.model_validate(context.run.input)
    return StepResult({"query": asked.question, "filter": context.run.input.get("filter"), "limit": MOST_CANDIDATES})
