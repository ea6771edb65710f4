"""Passages that may be of use, found by search in the caller's own name."""

from services.indexing.agents.graph import StepContext, StepResult
from services.indexing.search.schemas import SearchRequest


async def retrieve(context: StepContext) -> StepResult:
    """The best hits of the planned search, as places."""
    planned = context.outputs["plan"]
    request = SearchRequest(query=planned["query"], filter=planned["filter"], limit=planned["limit"])
    places = await context.knowledge.find(request)
    return StepResult({"places": [place.model_dump(mode="json") for place in places]})
