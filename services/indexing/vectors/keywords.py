"""Keyword vectors: BM25 term weights, without the inverse document frequency which the engine adds at search time.

A chunk's weight for a term is tf (k+1) / (tf + k (1 - b + b len/avg_len)) (Robertson and Zaragoza, 2009, k 1.2,
b 0.75). A query term weighs as often as it occurs, which matters for long queries. English stemming and stop words,
accents folded; other languages are matched by their exact words. Scripts written without spaces are not segmented.
"""

from qdrant_edge import Bm25, Bm25Config, SparseVector, TokenizerType

_TERM_FREQUENCY_K = 1e6
"""So far from saturation that the weight is the term frequency itself, exact in single precision."""


class KeywordModel:
    def __init__(self, average_chunk_tokens: float) -> None:
        self._chunks = Bm25(
            Bm25Config(
                avg_len=average_chunk_tokens, tokenizer=TokenizerType.Word, language="english", ascii_folding=True
            )
        )
        self._queries = Bm25(
            Bm25Config(k=_TERM_FREQUENCY_K, b=0.0, tokenizer=TokenizerType.Word, language="english", ascii_folding=True)
        )

    def of_chunk(self, text: str) -> SparseVector:
        return self._chunks.embed_document(text)

    def of_query(self, text: str) -> SparseVector | None:
        """None when no term is left: nothing can match."""
        vector = self._queries.embed_document(text)
        return vector if vector.indices else None
