"""The answerer that needs no model but the bundled embedder: it quotes.

An answer is up to three sentences of the passages, verbatim and in the order of their documents, each cited where it
stands. A sentence scores by the cosine of its vector and the question's, by the share of the question's words that it
has, which weigh more the rarer they are among the sentences, less by words that only its neighbours, its heading or its
document's name have, and by having the form of an answer (`answer_types`). The best ones that are not alike are chosen
(`diversity`).

When even the best scores below `_SUPPORT`, it refuses. The weights were set by hand; the two thresholds were chosen on
one half of the questions in `tests/bench/questions`, and what they do on the other half is in docs/benchmarks.md. A
threshold cannot know what a document does not say: a question about something next to what a document says may be
answered with what it says.

Bounded: `_MOST_SENTENCES` sentences are compared by words and `_MOST_EMBEDDED` by meaning. Comparing takes turns with
the searches of all tenants, embedding with all that is embedded.
"""

import uuid
from collections.abc import AsyncIterator, Generator, Sequence
from math import log
from typing import Final

import numpy as np

from services.indexing.agents.answerers import answer_types, sentences
from services.indexing.agents.answerers.base import AnswerPiece, Finished, Refusal, TextDelta
from services.indexing.agents.answerers.diversity import most_relevant_and_diverse
from services.indexing.agents.answerers.sentences import Sentence
from services.indexing.agents.contracts import ModelBudget, Passage
from services.indexing.analysis.multilingual import content_words
from services.indexing.embedders import Embedder
from services.indexing.search.fair_share import SearchShares

MOST_CITED: Final = 3

_MOST_PASSAGES: Final = 16
_MOST_SENTENCES: Final = 200
_MOST_EMBEDDED: Final = 16

_WORDS: Final = 0.5
_WORDS_BESIDE: Final = 0.2
_FORM: Final = 0.2
# Of a question of no known kind: every sentence has the form, or none.
_UNKNOWN_FORM: Final = 0.6
_RANK: Final = 0.1
_FRAGMENT: Final = -0.2
_FRAGMENT_CHARACTERS: Final = 25

_SUPPORT: Final = 0.97
# A further sentence is cited only if it scores nearly as well as the best.
_NEARLY: Final = 0.75


class ExtractiveAnswerer:
    """An `Answerer`."""

    def __init__(self, embedder: Embedder, shares: SearchShares) -> None:
        self._embedder = embedder
        self._shares = shares

    async def answer(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        tenant_id: uuid.UUID,
        language: str | None,
        budget: ModelBudget,  # calls no model
    ) -> AsyncIterator[AnswerPiece]:
        chosen = await self._chosen(question, passages[:_MOST_PASSAGES], tenant_id, language)
        if not chosen:
            yield Refusal("no_evidence" if passages else "no_passages")
        draft = sentences.drafted(chosen)
        end = 0
        for citation in draft.citations:
            yield TextDelta(draft.text[end : citation.claim_end])
            yield citation
            end = citation.claim_end
        yield Finished()

    async def _chosen(
        self, question: str, passages: Sequence[Passage], tenant_id: uuid.UUID, language: str | None
    ) -> list[Sentence]:
        """The sentences that answer; none when nothing does."""
        compared = await self._shares.compute(tenant_id, self._by_words(question, passages, language))
        if not compared:
            return []
        found = [sentence for _, sentence in compared]
        vectors = await self._embedder.embed([sentence.text for sentence in found], caller=tenant_id)
        asked = await self._embedder.embed_query(question, caller=tenant_id)
        scores = vectors @ asked + np.array([score for score, _ in compared], np.float32)
        if scores.max() < _SUPPORT:
            return []
        best = most_relevant_and_diverse(scores, vectors, most=MOST_CITED)
        return sentences.in_document_order([found[one] for one in best if scores[one] >= _NEARLY * scores.max()])

    def _by_words(
        self, question: str, passages: Sequence[Passage], language: str | None
    ) -> Generator[None, None, list[tuple[float, Sentence]]]:
        """The best sentences with what is known of them without their vectors."""
        found = yield from sentences.of_passages(passages, language=language, most=_MOST_SENTENCES)
        asked = content_words(question)
        own, beside = [], []
        for sentence in found:
            own.append(content_words(sentence.text))
            beside.append(content_words(f"{sentence.beside} {sentence.passage.document_name}"))
            yield
        weights = {term: log(1 + len(found) / (0.5 + sum(term in each for each in own))) for term in asked}
        total = sum(weights.values()) or 1.0
        kind = answer_types.expected(question)
        scored = []
        for sentence, here, near in zip(found, own, beside, strict=True):
            score = _WORDS * sum(weights[term] for term in asked & here) / total
            score += _WORDS_BESIDE * sum(weights[term] for term in (asked & near) - here) / total
            score += _FORM * _form(sentence.text, kind) + _RANK / (1 + sentence.rank)
            score += _FRAGMENT * (sentence.heading or len(sentence.text) < _FRAGMENT_CHARACTERS)
            scored.append((score, sentence))
            yield
        return sorted(scored, key=lambda each: -each[0])[:_MOST_EMBEDDED]


def _form(text: str, kind: answer_types.AnswerType) -> float:
    return _UNKNOWN_FORM if kind is answer_types.AnswerType.ANY else float(answer_types.has(text, kind))
