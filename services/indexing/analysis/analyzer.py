"""What an analyzer does."""

from collections.abc import Generator, Sequence
from typing import NamedTuple, Protocol

Span = tuple[int, int]
"""A half-open range of code points."""


class Terms(NamedTuple):
    """A sparse vector: 32-bit ids of terms, each once, and their weights."""

    ids: Sequence[int]
    weights: Sequence[float]


class QueryTerm(NamedTuple):
    """A term as people read it: a stem of `language`, or, without one, a word or characters as they are written,
    folded. `weight` is what the query gives it."""

    text: str
    language: str | None
    weight: float


class Matcher(Protocol):
    """The terms of one query, ready to be looked up in texts."""

    def spans(self, text: str) -> Generator[None, None, list[Span]]:
        """The words of the text that the query matches, in order, without overlap; `yield`s at least every
        millisecond."""

    @property
    def matches_anything(self) -> bool:
        """Whether the query has a term."""


class Analyzer(Protocol):
    """Turns text into weighted terms. Without state, safe in threads, and linear in the length of the text.

    The score of a chunk is the sum over common terms of its weight, the query's weight and the inverse document
    frequency, which the engine adds. Ids of two analyzers coincide only by chance, once in four billion.
    """

    @property
    def name(self) -> str:
        """Identifies what it makes of a text."""

    def of_chunk(self, text: str, context: str = "", *, average_length: float) -> Terms:
        """The terms of a chunk with its context (title, headings), which is searched as well.

        `average_length`: the mean length of text and context, in characters, of the chunks that this one is ranked
        with.
        """

    def of_query(self, text: str) -> Terms:
        """The terms of a query. Without any, nothing can match."""

    def terms_of_query(self, text: str) -> list[QueryTerm]:
        """The terms of `of_query`, to be read."""

    def matcher(self, query: str) -> Matcher:
        """Finds in texts what `of_query` would have found them by."""
