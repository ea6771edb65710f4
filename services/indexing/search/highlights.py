"""Where the words of a query stand in a text.

Words match when their stems do, without regard to case and accents: `index` finds `Indexing` and `indexed`. The stem is
a light cut of English endings; in other languages equal words match. Scripts written without spaces (Chinese, Japanese,
Thai) match as substrings.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final

MAX_HIGHLIGHTS: Final = 50

_WORD: Final = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)?")
_UNSPACED: Final = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_ENDINGS: Final = (
    "ations", "ation", "ingly", "edly", "ings", "ness", "ment", "ments",
    "ing", "ies", "ied", "ers", "ed", "es", "er", "ly", "s", "e", "y",
)  # fmt: skip
_SHORTEST_STEM: Final = 3
# Too common to point anybody anywhere; a query of nothing else is matched as it is.
_STOP_WORDS: Final = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by for from has have how if in into is it its no not of on or such that the their "
        "then there these they this to was were what when where which who why will with",
    )
)

Span = tuple[int, int]


def spans(text: str, query: str) -> list[Span]:
    """Half-open ranges of characters of `text`, in order and apart; at most `MAX_HIGHLIGHTS`."""
    words = [word.group() for word in _WORD.finditer(query)]
    telling = [word for word in words if _folded(word) not in _STOP_WORDS] or words
    stems = {stem(word) for word in telling if not _UNSPACED.search(word)}
    unspaced = [word for word in telling if _UNSPACED.search(word)]
    found = [match.span() for match in _WORD.finditer(text) if stem(match.group()) in stems]
    for word in unspaced:
        found += [match.span() for match in re.finditer(re.escape(word), text, re.IGNORECASE)]
    return _apart(sorted(found))[:MAX_HIGHLIGHTS]


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    folded = _folded(word)
    for ending in _ENDINGS:
        if folded.endswith(ending) and len(folded) - len(ending) >= _SHORTEST_STEM:
            cut = folded[: -len(ending)]
            doubled = len(cut) > _SHORTEST_STEM and cut[-1] == cut[-2] and ending in ("ing", "ed", "er", "ers")
            return cut[:-1] if doubled else cut
    return folded


def _folded(word: str) -> str:
    decomposed = unicodedata.normalize("NFKD", word.casefold())
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    return plain.replace("’", "'").removesuffix("'s")


def _apart(ordered: list[Span]) -> list[Span]:
    """Overlapping ranges joined."""
    joined: list[Span] = []
    for start, end in ordered:
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined
