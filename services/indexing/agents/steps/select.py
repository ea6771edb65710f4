"""Which of the passages that were found an answer may rely on."""

from typing import Final

from services.indexing.agents.contracts import Passage
from services.indexing.agents.graph import StepContext, StepResult
from services.indexing.agents.knowledge import Place
from shared.events.indexing import RunPassagesFound

MOST_PASSAGES: Final = 12
MOST_CHARACTERS: Final = 12_000


async def select(context: StepContext) -> StepResult:
    """The best passages, each text once, up to a number and a length."""
    found = [Place.model_validate(place) for place in context.outputs["retrieve"]["places"]]
    return given(_chosen(await context.knowledge.passages(found)))


def given(chosen: list[Passage]) -> StepResult:
    """What a step of this name gives: these passages, in this order."""
    return StepResult(
        {"places": [_place(passage) for passage in chosen]},
        events=((RunPassagesFound, {"passages": [_shown(passage) for passage in chosen]}),),
        documents=frozenset(passage.document_id for passage in chosen),
    )


async def selected(context: StepContext) -> list[Passage]:
    """The passages that were selected, read anew: a document deleted meanwhile is not among them."""
    places = [Place.model_validate(place) for place in context.outputs["select"]["places"]]
    return await context.knowledge.passages(places)


def _chosen(passages: list[Passage]) -> list[Passage]:
    chosen: list[Passage] = []
    texts: set[str] = set()
    characters = 0
    for passage in passages:
        if len(chosen) == MOST_PASSAGES or characters + len(passage.text) > MOST_CHARACTERS:
            break
        if passage.text not in texts:
            texts.add(passage.text)
            chosen.append(passage)
            characters += len(passage.text)
    return chosen


def _place(passage: Passage) -> dict[str, object]:
    return passage.model_dump(mode="json", include=set(Place.model_fields))


def _shown(passage: Passage) -> dict[str, object]:
    return passage.model_dump(mode="json", exclude={"text", "sha256"})
