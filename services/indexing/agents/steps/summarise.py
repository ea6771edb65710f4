"""Summaries: the passages to be read, and the sentences that stand for all of them."""

from typing import Final

from services.indexing.agents.contracts import Passage, SummariseInput
from services.indexing.agents.graph import StepContext, StepResult
from services.indexing.agents.knowledge import Place
from services.indexing.agents.steps.answer import stored_draft
from services.indexing.agents.steps.select import given, selected
from services.indexing.search.schemas import SearchRequest

_PASSAGES: Final = 40
# Search takes a query. This one prefers what summaries are made of, of whatever matches the filter.
_QUERY: Final = "main points, results and conclusions"


async def gather(context: StepContext) -> StepResult:
    """The passages of the document, evenly; or those that match the filter and are most like conclusions."""
    asked = SummariseInput.model_validate(context.run.input)
    if asked.document_id is not None:
        passages = await context.knowledge.of_document(asked.document_id)
        places = [_place(passage) for passage in _evenly(passages)]
    else:
        request = SearchRequest(query=_QUERY, filter=context.run.input.get("filter"), limit=_PASSAGES, mode="semantic")
        places = await context.knowledge.find(request)
    return StepResult({"places": [place.model_dump(mode="json") for place in places]})


async def arrange(context: StepContext) -> StepResult:
    """The passages in the order in which they are read."""
    found = [Place.model_validate(place) for place in context.outputs["retrieve"]["places"]]
    passages = await context.knowledge.passages(found)
    first = {passage.document_id: number for number, passage in reversed(list(enumerate(passages)))}
    return given(sorted(passages, key=lambda passage: (first[passage.document_id], passage.start)))


async def summarise(context: StepContext) -> StepResult:
    """The most central sentences, verbatim and cited."""
    asked = SummariseInput.model_validate(context.run.input)
    draft = await context.writing.summarise(
        await selected(context), most=asked.length, tenant_id=context.run.tenant_id, language=asked.language
    )
    await context.add_text(draft.text)
    return StepResult(stored_draft(draft))


def _evenly(passages: list[Passage]) -> list[Passage]:
    if len(passages) <= _PASSAGES:
        return passages
    return [passages[number * len(passages) // _PASSAGES] for number in range(_PASSAGES)]


def _place(passage: Passage) -> Place:
    return Place(
        document_id=passage.document_id, version=passage.version, chunk_index=passage.chunk_index, score=passage.score
    )
