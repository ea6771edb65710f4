"""The first analyzer: English stemming and stop words, Latin accents folded; other languages match by exact words.

Points made with it are searched with it until they are made again. BM25 as in `multilingual`, with lengths in words and
one average for all projects.
"""

import unicodedata
from collections.abc import Generator
from functools import lru_cache
from typing import Final

from qdrant_edge import Bm25, Bm25Config, TokenizerType

from services.indexing.analysis import tokenizer
from services.indexing.analysis.analyzer import QueryTerm, Span, Terms

_AVERAGE_WORDS: Final = 100.0
_TERM_FREQUENCY_K: Final = 1e6
"""So far from saturation that the weight is the term frequency itself, exact in single precision."""
_MAX_TERMS: Final = 64


class English:
    name: Final = "english-1"

    def of_chunk(self, text: str, context: str = "", *, average_length: float) -> Terms:
        return _terms(_chunks(), f"{context}\n{text}" if context else text)

    def of_query(self, text: str) -> Terms:
        found = _terms(_queries(), text)
        if len(found.ids) <= _MAX_TERMS:
            return found
        weights, kept = dict(zip(*found, strict=True)), dict[int, float]()
        for token in tokenizer.tokens(text):
            kept.update((term, weights[term]) for term in _of_word(token.group()) if term in weights)
            if len(kept) >= _MAX_TERMS:
                break
        return Terms(list(kept)[:_MAX_TERMS], list(kept.values())[:_MAX_TERMS])

    def terms_of_query(self, text: str) -> list[QueryTerm]:
        """Words as they are written: the engine's stemmer gives ids only."""
        weights = dict(zip(*self.of_query(text), strict=True))
        words = {token.group(): _of_word(token.group()) for token in tokenizer.tokens(text)}
        return [QueryTerm(word, "en", weights[ids[0]]) for word, ids in words.items() if ids and ids[0] in weights]

    def matcher(self, query: str) -> "_Matcher":
        return _Matcher(frozenset(self.of_query(query).ids))


class _Matcher:
    def __init__(self, terms: frozenset[int]) -> None:
        self._terms = terms

    @property
    def matches_anything(self) -> bool:
        return bool(self._terms)

    def spans(self, text: str) -> Generator[None, None, list[Span]]:
        found: list[Span] = []
        for token in tokenizer.tokens(text):
            if not self._terms.isdisjoint(_of_word(token.group())):
                found.append(token.span())
            yield
        return found


def _terms(model: Bm25, text: str) -> Terms:
    vector = model.embed_document(unicodedata.normalize("NFC", text))
    return Terms(vector.indices, vector.values)


def _of_word(word: str) -> tuple[int, ...]:
    return tuple(_terms(_queries(), word).ids)


@lru_cache(maxsize=1)
def _chunks() -> Bm25:
    return Bm25(
        Bm25Config(avg_len=_AVERAGE_WORDS, tokenizer=TokenizerType.Word, language="english", ascii_folding=True)
    )


@lru_cache(maxsize=1)
def _queries() -> Bm25:
    return Bm25(
        Bm25Config(k=_TERM_FREQUENCY_K, b=0.0, tokenizer=TokenizerType.Word, language="english", ascii_folding=True)
    )
