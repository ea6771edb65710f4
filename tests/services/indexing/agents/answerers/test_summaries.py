import uuid

import numpy as np
import pytest

from services.indexing.agents.answerers.diversity import most_relevant_and_diverse
from services.indexing.agents.answerers.summaries import centrality, summarise
from services.indexing.agents.quotes.verification import verify
from services.indexing.embedders.minilm import MiniLM
from services.indexing.search.fair_share import SearchShares
from tests.services.indexing.agents.stored_texts import Stored, StoredTexts, at_once

REPORT = Stored.of(
    "Report on the year\n\nThe harvest of apples was larger than in any year before. Apples of the early kinds were "
    "picked in August. More apples were sold to the cider press than to shops. The price of apples fell by a third. "
    "The cat of the neighbours had kittens. A new press for apple juice was bought, and it works twice as fast."
)


async def test_a_summary_is_verbatim_cited_and_in_order(
    embedder: MiniLM, shares: SearchShares, tenant: uuid.UUID
) -> None:
    passages = REPORT.passages()
    draft = await summarise(passages, most=3, tenant_id=tenant, embedder=embedder, shares=shares)
    answer = await verify(draft, passages, StoredTexts(REPORT), compute=at_once)
    assert (len(answer.claims), answer.grounding, {each.match for each in answer.citations}) == (3, "full", {"exact"})
    assert [each.start for each in answer.citations] == sorted(each.start for each in answer.citations)
    assert "apples" in answer.text
    assert "kittens" not in answer.text


@pytest.mark.parametrize("most", [1, 2, 20])
async def test_a_summary_is_as_long_as_asked_for(
    embedder: MiniLM, shares: SearchShares, tenant: uuid.UUID, most: int
) -> None:
    draft = await summarise(REPORT.passages(), most=most, tenant_id=tenant, embedder=embedder, shares=shares)
    assert len(draft.citations) == min(most, 7)


async def test_there_is_no_summary_of_nothing(embedder: MiniLM, shares: SearchShares, tenant: uuid.UUID) -> None:
    draft = await summarise([], most=3, tenant_id=tenant, embedder=embedder, shares=shares)
    assert (draft.refusal, draft.text) == ("no_passages", "")


def test_what_is_like_all_others_is_central() -> None:
    scores = centrality(np.array([[1, 0], [0.7, 0.7], [0, 1]], np.float32))
    assert scores.argmax() == 1
    assert scores.sum() == pytest.approx(1, abs=1e-3)


def test_vectors_without_a_direction_are_no_error() -> None:
    assert np.isfinite(centrality(np.zeros((3, 2), np.float32))).all()


def test_what_is_alike_is_chosen_once() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert list(most_relevant_and_diverse(np.array([1.0, 0.99, 0.7], np.float32), vectors, most=2)) == [0, 2]
    assert list(most_relevant_and_diverse(np.array([1.0], np.float32), vectors[:1], most=5)) == [0]
