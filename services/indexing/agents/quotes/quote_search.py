"""Where a quote stands in stored text, whole or in part.

A quote that is not found whole may still be one that was shortened, stitched together or changed in places. It counts
when pieces of at least `SHORTEST` code points that stand in one text make up half of it, and then it becomes the
longest of them: so neither the words that every text on a subject shares nor an invented sentence around a name count.

Time is bounded whatever the texts and the quote are: `LONGEST` code points of a quote are looked at, and a text is
compared at no more than `_MOST_PLACES` places for each position of the quote.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from services.indexing.agents.contracts import StoredText
from services.indexing.agents.quotes.folded_text import FoldedText, fold, length

SHORTEST: Final = 12
LONGEST: Final = 1_000

_MOST_PLACES: Final = 4
_BETWEEN_YIELDS: Final = 500
_LONGEST_WORD: Final = 24
# What writers put around a quote, or for what they left out.
_AROUND: Final = " \t\r\n\"'“”‘’„«»…"


@dataclass(frozen=True, slots=True)
class Found:
    """`start`, `end`: in the text of the version; `quote` is what stands there."""

    start: int
    end: int
    quote: str
    match: Literal["exact", "normalised"]


@dataclass(frozen=True, slots=True)
class Part:
    """`covered`: how many characters of the quote, folded, stand in the same text."""

    found: Found
    covered: int


@dataclass(frozen=True, slots=True)
class _Tile:
    """Where a part of a quote stands, in folded characters."""

    start: int
    length: int


class SearchableText:
    """A contiguous piece of stored text; what is needed of it to find quotes is made when it is needed."""

    def __init__(self, stored: StoredText) -> None:
        self.stored = stored

    @cached_property
    def folded(self) -> FoldedText:
        return fold(self.stored.text)

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """Where each run of `SHORTEST` folded characters begins."""
        places: dict[str, list[int]] = {}
        text = self.folded.text
        for start in range(len(text) - SHORTEST + 1):
            found = places.setdefault(text[start : start + SHORTEST], [])
            if len(found) < _MOST_PLACES:
                found.append(start)
        return places

    def found(self, start: int, end: int, quote: str) -> Found | None:
        """The range of this piece, if it is long enough."""
        text = self.stored.text[start:end]
        if length(text) < SHORTEST:
            return None
        match: Literal["exact", "normalised"] = "exact" if text in quote else "normalised"
        return Found(self.stored.start + start, self.stored.start + end, text, match)


def find_whole(quote: str, texts: Sequence[SearchableText]) -> Generator[None, None, Found | None]:
    """Where all of the quote stands: exactly in one of the texts, else normalised."""
    quote, bare = _trimmed(quote)
    for wanted in dict.fromkeys((quote, bare)):
        for text in texts:
            start = text.stored.text.find(wanted)
            if start >= 0 and (found := text.found(start, start + len(wanted), wanted)):
                return found
    yield
    for folded in dict.fromkeys((fold(quote).text.strip(), fold(bare).text.strip())):
        if length(folded) < SHORTEST:
            return None
        for text in texts:
            start = text.folded.text.find(folded)
            if start >= 0 and (found := text.found(*text.folded.span(start, start + len(folded)), quote)):
                return found
            yield
    return None


def find_part(quote: str, texts: Sequence[SearchableText]) -> Generator[None, None, Part | None]:
    """The longest part of the quote in the text that has most of it, among equals the first, if that is enough."""
    quote, bare = _trimmed(quote)
    folded = fold(bare).text.strip()
    best: Part | None = None
    for text in texts:
        tiles = yield from _tiles(folded, text)
        covered = sum(tile.length for tile in tiles)
        if 2 * covered >= len(folded) > 0 and (best is None or covered > best.covered):
            found = _longest(tiles, text, quote)
            best = best if found is None else Part(found, covered)
        yield
    return best


def _trimmed(quote: str) -> tuple[str, str]:
    """As much of the quote as counts, and the same without what writers put around one."""
    quote = quote[:LONGEST].strip()
    return quote, quote.strip(_AROUND).removesuffix("...").rstrip()


def _tiles(quote: str, text: SearchableText) -> Generator[None, None, list[_Tile]]:
    """Parts of the quote that stand in the text, from left to right, each as long as it goes on."""
    tiles: list[_Tile] = []
    position, looked_at = 0, 0
    while position <= len(quote) - SHORTEST:
        places = text.places.get(quote[position : position + SHORTEST], ())
        tile = max(_grown(quote, position, text.folded.text, places), key=lambda each: each.length, default=None)
        if tile is not None:
            tiles.append(tile)
        position += 1 if tile is None else tile.length
        looked_at += 1 if tile is None else tile.length * len(places)
        if looked_at > _BETWEEN_YIELDS:
            looked_at = 0
            yield
    return tiles


def _grown(quote: str, position: int, text: str, places: Sequence[int]) -> Iterator[_Tile]:
    for start in places:
        size, most = SHORTEST, min(len(quote) - position, len(text) - start)
        while size < most and quote[position + size] == text[start + size]:
            size += 1
        yield _Tile(start, size)


def _longest(tiles: Sequence[_Tile], text: SearchableText, quote: str) -> Found | None:
    tile = max(tiles, key=lambda each: each.length)
    start, end = _whole_words(text.stored.text, *text.folded.span(tile.start, tile.start + tile.length))
    return text.found(start, end, quote)


def _whole_words(text: str, start: int, end: int) -> tuple[int, int]:
    """The range without white space and pieces of words at its ends; words of scripts without spaces may be cut."""
    begin = start
    if start > 0 and text[start - 1].isalnum():
        while start < end and start - begin < _LONGEST_WORD and text[start].isalnum():
            start += 1
        start = begin if start - begin == _LONGEST_WORD else start
    stop = end
    if end < len(text) and text[end].isalnum():
        while end > start and stop - end < _LONGEST_WORD and text[end - 1].isalnum():
            end -= 1
        end = stop if stop - end == _LONGEST_WORD else end
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
