"""Where the words of a query occur in a text.

A word is marked when keyword search takes it for one of the query's: both use `vectors.keywords`, so a passage found by
a word shows that word. Words also match when their light stems do, ignoring case and accents. Scripts written without
spaces (Chinese, Japanese, Thai) match as substrings.

Bounded: only the first `MAX_TERMS` different words of a query count; a text is read once, whatever the query, for at
most `MAX_HIGHLIGHTS` marks and up to `MAX_TEXT`. `marking` takes less than a millisecond between two `yield`s.
"""

import re
import unicodedata
from collections.abc import Generator, Iterator
from functools import lru_cache
from typing import Final

from services.indexing.vectors.keywords import MAX_TERMS, KeywordModel, words

MAX_HIGHLIGHTS: Final = 50
MAX_TEXT: Final = 4_000

_WORDS_BETWEEN_YIELDS: Final = 200
_LONGEST_REMEMBERED: Final = 64
_UNSPACED: Final = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_ENDINGS: Final = (
    "ations", "ation", "ingly", "edly", "ings", "ness", "ment", "ments",
    "ing", "ies", "ied", "ers", "ed", "es", "er", "ly", "s", "e", "y",
)  # fmt: skip
_SHORTEST_STEM: Final = 3
# Too common to be useful; a query of nothing else is matched as it is.
_STOP_WORDS: Final = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by for from has have how if in into is it its no not of on or such that the their "
        "then there these they this to was were what when where which who why will with",
    )
)

Span = tuple[int, int]


class Highlighter:
    """The words of one query, ready to be looked up in texts. `model` is the one that search uses."""

    def __init__(self, query: str, model: KeywordModel) -> None:
        self._model = model
        distinct = _distinct(query)
        telling = [word for word in distinct if _folded(word) not in _STOP_WORDS] or distinct
        self._stems = {stem(word) for word in telling if not _UNSPACED.search(word)}
        self._terms = {term for word in telling for term in model.terms_of(word)}
        self._unspaced = [word.lower() for word in telling if _UNSPACED.search(word)]

    def marking(self, text: str) -> Generator[None, None, list[Span]]:
        """Half-open ranges of characters of `text`, in order, without overlap; `yield`s now and then."""
        text = text[:MAX_TEXT]
        found: list[Span] = []
        for number, word in enumerate(words(text), start=1):
            if self._is_marked(word.group()):
                found.append(word.span())
                if len(found) == MAX_HIGHLIGHTS:
                    break
            if number % _WORDS_BETWEEN_YIELDS == 0:
                yield
        if self._unspaced:
            found += self._substrings(text)
            yield
        return _apart(sorted(found))[:MAX_HIGHLIGHTS]

    def _is_marked(self, word: str) -> bool:
        return stem(word) in self._stems or not self._terms.isdisjoint(self._model.terms_of(word))

    def _substrings(self, text: str) -> Iterator[Span]:
        lowered = text.lower()
        if len(lowered) != len(text):  # lowering changes the length of a few letters; then case counts
            lowered = text
        for word in self._unspaced:
            start, number = lowered.find(word), 0
            while start >= 0 and number < MAX_HIGHLIGHTS:
                yield start, start + len(word)
                start, number = lowered.find(word, start + len(word)), number + 1


def stem(word: str) -> str:
    return _stem_of_long(word) if len(word) > _LONGEST_REMEMBERED else _stem(word)


@lru_cache(maxsize=4096)
def _stem(word: str) -> str:
    return _stem_of_long(word)


def _stem_of_long(word: str) -> str:
    folded = _folded(word)
    for ending in _ENDINGS:
        if folded.endswith(ending) and len(folded) - len(ending) >= _SHORTEST_STEM:
            cut = folded[: -len(ending)]
            doubled = len(cut) > _SHORTEST_STEM and cut[-1] == cut[-2] and ending in ("ing", "ed", "er", "ers")
            return cut[:-1] if doubled else cut
    return folded


def _distinct(query: str) -> list[str]:
    """The first different words of a query."""
    found: dict[str, str] = {}
    for word in words(query):
        if len(found) == MAX_TERMS:
            break
        found.setdefault(word.group().casefold(), word.group())
    return list(found.values())


def _folded(word: str) -> str:
    decomposed = unicodedata.normalize("NFKD", word.casefold())
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    return plain.replace("’", "'").removesuffix("'s")


def _apart(ordered: list[Span]) -> list[Span]:
    """Joins overlapping ranges."""
    joined: list[Span] = []
    for start, end in ordered:
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined
