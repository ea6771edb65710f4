"""Keyword vectors: BM25 term weights, without the inverse document frequency which the engine adds at search time.

A chunk's weight for a term is tf (k+1) / (tf + k (1 - b + b len/avg_len)) (Robertson and Zaragoza, 2009, k 1.2,
b 0.75). A query term's weight is how often it occurs, which matters for long queries; only the first `MAX_TERMS`
different terms count. English stemming and stop words, accents folded; other languages match by exact words, in
Unicode's composed form. Scripts written without spaces are not segmented.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from qdrant_edge import Bm25, Bm25Config, SparseVector, TokenizerType

MAX_TERMS: Final = 64
"""An engine reads one list of chunks for each."""

_TERM_FREQUENCY_K = 1e6
"""So far from saturation that the weight is the term frequency itself, exact in single precision."""
_CIRCLED: Final = "\u24b6-\u24e9\U0001f130-\U0001f149\U0001f150-\U0001f169\U0001f170-\U0001f189"
"""Letters to the engine's tokenizer, and symbols to Python."""
_LONGEST_REMEMBERED: Final = 64
_REMEMBERED: Final = 8192


def words(text: str) -> Iterator[re.Match[str]]:
    """The words of a text: letters, digits and their marks, with an apostrophe and what follows."""
    return _word().finditer(text)


@lru_cache(maxsize=1)
def _word() -> re.Pattern[str]:
    marks = "".join(chr(point) for point in range(0x300, 0x20000) if unicodedata.category(chr(point)).startswith("M"))
    first = rf"(?:[^\W_]|[{_CIRCLED}])"
    letter = rf"(?:[^\W_]|[{_CIRCLED}{re.escape(marks)}])"
    return re.compile(rf"{first}{letter}*(?:['’](?:(?!\d){first}){letter}*)?")


class KeywordModel:
    def __init__(self, average_chunk_tokens: float = 100.0) -> None:
        self._chunks = Bm25(
            Bm25Config(
                avg_len=average_chunk_tokens, tokenizer=TokenizerType.Word, language="english", ascii_folding=True
            )
        )
        self._queries = Bm25(
            Bm25Config(k=_TERM_FREQUENCY_K, b=0.0, tokenizer=TokenizerType.Word, language="english", ascii_folding=True)
        )
        _word()  # takes a while the first time
        self._remembered = lru_cache(_REMEMBERED)(self._terms)

    def of_chunk(self, text: str) -> SparseVector:
        return self._chunks.embed_document(_composed(text))

    def of_query(self, text: str) -> SparseVector | None:
        """None when no term is left: nothing can match."""
        vector = self._queries.embed_document(_composed(text))
        if len(vector.indices) > MAX_TERMS:
            vector = self._first_terms(text, dict(zip(vector.indices, vector.values, strict=True)))
        return vector if vector.indices else None

    def terms_of(self, word: str) -> tuple[int, ...]:
        """The terms of a word; none for a stop word."""
        return self._terms(word) if len(word) > _LONGEST_REMEMBERED else self._remembered(word)

    def _terms(self, word: str) -> tuple[int, ...]:
        return tuple(self._queries.embed_document(_composed(word)).indices)

    def _first_terms(self, text: str, weights: dict[int, float]) -> SparseVector:
        """The terms of only the first words."""
        kept: dict[int, float] = {}
        for word in words(text):
            for term in self.terms_of(word.group()):
                if term in weights:
                    kept.setdefault(term, weights[term])
            if len(kept) >= MAX_TERMS:
                break
        kept = dict(list(kept.items())[:MAX_TERMS])
        return SparseVector(indices=list(kept), values=list(kept.values()))


def _composed(text: str) -> str:
    """Normalises text, so that text that looks the same is the same however it was typed."""
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)
