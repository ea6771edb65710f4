"""The answerer that quotes. How good its answers are: `uv run bench answers`."""

import asyncio
import uuid
from collections.abc import Hashable, Sequence

import pytest

from services.indexing.agents.answerers.base import Answerer
from services.indexing.agents.answerers.extractive import _MOST_EMBEDDED, MOST_CITED, ExtractiveAnswerer
from services.indexing.agents.contracts import Answer
from services.indexing.embedders import Vectors
from services.indexing.embedders.minilm import MiniLM
from services.indexing.search.fair_share import SearchShares
from tests.services.indexing.agents.drafting import answered, drafted
from tests.services.indexing.agents.stored_texts import Stored, StoredTexts

BRIDGE = Stored.of(
    "The bridge\n\nThe bridge was opened on 19 March 1932 by the Premier. Its arch spans 503 metres, and its top "
    "stands 134 metres above the water. The granite of its pylons was quarried at Moruya, because the stone there is "
    "hard.",
    name="bridge.txt",
)
BEES = Stored.of("A strong colony holds up to 60,000 bees in summer. Bees do not hibernate; they shiver to keep warm.")
PASSAGES = [*BRIDGE.passages(), *BEES.passages()]


async def ask(extractive: ExtractiveAnswerer, question: str, tenant: uuid.UUID) -> Answer:
    return await answered(extractive, question, PASSAGES, StoredTexts(BRIDGE, BEES), tenant_id=tenant)


def test_it_is_an_answerer(extractive: ExtractiveAnswerer) -> None:
    answerer: Answerer = extractive
    assert answerer is extractive


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("When was the bridge opened?", "19 March 1932"),
        ("How high does the top of the arch stand above the water?", "134 metres"),
        ("Where was the granite of the pylons quarried?", "Moruya"),
        ("How many bees are in a colony in summer?", "60,000"),
        ("How do bees keep warm?", "shiver"),
    ],
)
async def test_it_answers_with_the_sentence_that_says_so(
    extractive: ExtractiveAnswerer, question: str, answer: str, tenant: uuid.UUID
) -> None:
    assert answer in (await ask(extractive, question, tenant)).text


async def test_every_sentence_is_verbatim_and_a_claim_that_its_citation_supports(
    extractive: ExtractiveAnswerer, tenant: uuid.UUID
) -> None:
    answer = await ask(extractive, "How many metres does the bridge span, and how high is it?", tenant)
    assert (answer.grounding, answer.refusal) == ("full", None)
    assert 0 < len(answer.claims) <= MOST_CITED
    citations = {citation.id: citation for citation in answer.citations}
    for claim in answer.claims:
        (citation,) = (citations[each] for each in claim.citation_ids)
        assert answer.text[claim.start : claim.end] == citation.quote
        assert BRIDGE.text[citation.start : citation.end] == citation.quote
        assert citation.match == "exact"


async def test_sentences_stand_in_the_order_of_their_document(
    extractive: ExtractiveAnswerer, tenant: uuid.UUID
) -> None:
    answer = await ask(extractive, "When was the bridge opened and what does its arch span?", tenant)
    starts = [citation.start for citation in answer.citations]
    assert starts == sorted(starts)


@pytest.mark.parametrize("question", ["Which enzyme digests lactose?", "?", "the of and", "Who wrote Middlemarch?"])
async def test_it_refuses_when_nothing_supports_an_answer(
    extractive: ExtractiveAnswerer, question: str, tenant: uuid.UUID
) -> None:
    answer = await ask(extractive, question, tenant)
    assert (answer.refusal, answer.text, answer.citations) == ("no_evidence", "", ())


async def test_it_refuses_without_passages(extractive: ExtractiveAnswerer, tenant: uuid.UUID) -> None:
    draft, usage = await drafted(extractive, "When was it opened?", [], tenant_id=tenant)
    assert (draft.refusal, usage) == ("no_passages", None)


async def test_it_does_not_refuse_an_answer_and_give_one(extractive: ExtractiveAnswerer, tenant: uuid.UUID) -> None:
    draft, _ = await drafted(extractive, "Which enzyme digests lactose?", PASSAGES, tenant_id=tenant)
    assert (draft.text, draft.citations) == ("", ())


class CountingEmbedder:
    """The bundled model, and what it is asked for by whom."""

    def __init__(self, model: MiniLM) -> None:
        self._model = model
        self.name, self.dimensions = model.name, model.dimensions
        self.texts: list[str] = []
        self.callers: set[Hashable] = set()

    async def embed(self, texts: Sequence[str], *, caller: Hashable, background: bool = False) -> Vectors:
        self.texts += texts
        self.callers.add(caller)
        return await self._model.embed(texts, caller=caller, background=background)

    async def embed_query(self, text: str, *, caller: Hashable) -> Vectors:
        self.callers.add(caller)
        return await self._model.embed_query(text, caller=caller)

    def close(self) -> None:
        """The model is the fixture's."""


async def test_work_is_bounded_and_done_in_its_tenants_turn(
    embedder: MiniLM, shares: SearchShares, tenant: uuid.UUID
) -> None:
    counting = CountingEmbedder(embedder)
    answerer = ExtractiveAnswerer(counting, shares)
    long = Stored.of("".join(f"The bridge number {number} was opened in March. " for number in range(2_000)))
    await drafted(answerer, "When was the bridge number 7 opened?", long.passages(), tenant_id=tenant)
    assert len(counting.texts) <= _MOST_EMBEDDED
    assert counting.callers == {tenant}


async def test_the_event_loop_is_free_meanwhile(extractive: ExtractiveAnswerer, tenant: uuid.UUID) -> None:
    long = Stored.of("".join(f"The bridge number {number} was opened in March. " for number in range(2_000)))
    longest, stop = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal longest
        clock = asyncio.get_running_loop().time
        while not stop.is_set():
            before = clock()
            await asyncio.sleep(0)
            longest = max(longest, clock() - before)

    watching = asyncio.create_task(watch())
    await drafted(extractive, "When was the bridge number 7 opened?", long.passages(), tenant_id=tenant)
    stop.set()
    await watching
    assert longest < 0.1
