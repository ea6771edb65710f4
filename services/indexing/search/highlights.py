"""Where the words of a query occur in a text.

Exactly those words are marked that keyword search finds a passage by: both use one analyzer. In scripts without spaces
these are pairs of characters, joined where they touch. Offsets count code points.

Bounded: only the first different words of a query count (`analysis`), as does the beginning of a text up to `MAX_TEXT`,
and there are at most `MAX_HIGHLIGHTS` marks. `marking` takes less than a millisecond between two `yield`s.
"""

from collections.abc import Generator, Sequence
from typing import Final

from services.indexing.analysis import ANALYZERS, CURRENT
from services.indexing.analysis.analyzer import Span

MAX_HIGHLIGHTS: Final = 50
MAX_TEXT: Final = 4_000


class Highlighter:
    """The words of one query, ready to be looked up in texts. `analyzer` is the one that search uses."""

    def __init__(self, query: str, analyzer: str = CURRENT) -> None:
        self._matcher = ANALYZERS[analyzer].matcher(query)

    def marking(self, text: str) -> Generator[None, None, list[Span]]:
        """Half-open ranges of code points of `text`, in order, without overlap; `yield`s now and then."""
        if not self._matcher.matches_anything:
            return []
        found = yield from self._matcher.spans(text[:MAX_TEXT])
        return _joined(found)[:MAX_HIGHLIGHTS]


def _joined(ordered: Sequence[Span]) -> list[Span]:
    """Ranges that overlap as one."""
    joined: list[Span] = []
    for start, end in ordered:
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined
