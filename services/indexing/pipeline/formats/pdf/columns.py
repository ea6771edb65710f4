"""The order in which the columns of a page are read, where pdfium reads across them.

pdfium reads in the order of drawing. Some programs draw line by line across all columns, and every sentence of such a
page is torn to pieces. Only these pages are put in order, and only columns of prose are: the cells of a table stay
together in their row. Text is moved, never dropped.

The method is a recursive cut at gutters (the XY cut of Nagy and Seth, 1984) that lets headings and figures span them.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from services.indexing.pipeline.formats.pdf.characters import LINE_HYPHENS, Box, Characters

# Stands for what was removed from the page.
_NOTHING: Final = "\0"
_BETWEEN_WORDS: Final = re.compile(r"(?:[^\W\d]|[^\W\d][,.;:)]) (?=[^\W\d(•“])")
_WORD: Final = re.compile(f"[{LINE_HYPHENS}]|[^ \r\n{LINE_HYPHENS}]+[{LINE_HYPHENS}]?")
# What is read to the left jumps at every space.
_RIGHT_TO_LEFT: Final = re.compile("[\u0590-\u08ff]")
_LINES: Final = re.compile(r"(?:^|\n)([^\s\d])")
_SAMPLES: Final = 40
_FEWEST_SAMPLES: Final = 12
_JUMPING_WORDS: Final = 0.06
_ASIDE_LINES: Final = 0.35
_MOST_WORDS: Final = 20_000
_MOST_SEGMENTS: Final = 5000
_MOST_GUTTERS: Final = 20
_DEEPEST: Final = 4
_FEWEST_LINES: Final = 4

# In heights of a line.
_GAP: Final = 0.8
_BACK: Final = -0.5
_OTHER_LINE: Final = 0.5
_ASIDE: Final = 6
_NARROWEST_GUTTER: Final = 0.4

_CROSSING_SHARE: Final = 0.4
_PROSE_CHARACTERS: Final = 12
_PROSE_SHARE: Final = 0.6


class Segment(NamedTuple):
    """Part of a line: a half-open range of characters, and its place."""

    start: int
    end: int
    box: Box

    @property
    def length(self) -> int:
        return self.end - self.start


def blocks(characters: Characters) -> list[str]:
    """The text of a page whose columns pdfium has mixed, column by column; of any other page, as it is."""
    text = "".join(characters.units)
    if "" in characters.units:
        # What was removed from one place may have been added in another.
        text = "".join(unit[:1] or _NOTHING for unit in characters.units)
    fit = text.count(" ") <= _MOST_WORDS and not _RIGHT_TO_LEFT.search(text)
    if fit and _looks_mixed(characters, text):
        segments = list(_segments(characters, text))
        if 4 * _FEWEST_LINES <= len(segments) <= _MOST_SEGMENTS:
            regions = [region for region in _regions(segments, _DEEPEST) if region]
            if _are_mixed(segments, regions):
                return ["\n".join(_line(characters, row) for row in _rows(region)) for region in regions]
    return [characters.text()]


def _line(characters: Characters, row: Sequence[Segment]) -> str:
    return " ".join(characters.text(part.start, part.end) for part in row)


def _looks_mixed(characters: Characters, text: str) -> bool:
    """Whether the text jumps between words or from line to line, samples of which are looked at.

    Most pages cost no more than that. Numbers are left out, because tables jump.
    """
    words = [(found.end() - 2, found.end()) for found in _BETWEEN_WORDS.finditer(text)]
    lines = list(pairwise(found.start(1) for found in _LINES.finditer(text)))
    return _share(characters, words, _is_jump) > _JUMPING_WORDS or _share(characters, lines, _is_aside) > _ASIDE_LINES


def _share(characters: Characters, places: Sequence[tuple[int, int]], holds: Callable[[Box, Box], bool]) -> float:
    """Of a sample of neighbours, the share for which something holds; none where there are too few."""
    sample = places[:: max(1, -(-len(places) // _SAMPLES))]
    if len(sample) < _FEWEST_SAMPLES:
        return 0
    return sum(holds(characters.advance_box(one), characters.advance_box(other)) for one, other in sample) / len(sample)


def _is_jump(before: Box, after: Box) -> bool:
    height = before.height
    gap = after.left - before.right
    shift = abs(after.bottom - before.bottom)
    return height > 0 and (not _BACK * height <= gap <= _GAP * height or shift > _OTHER_LINE * height)


def _is_aside(line: Box, following: Box) -> bool:
    """Whether a line begins far to one side of the one before, and hardly below it."""
    beside = abs(following.left - line.left) > _ASIDE * line.height
    return beside and abs(following.bottom - line.bottom) < 2 * line.height


def _segments(characters: Characters, text: str) -> Iterator[Segment]:
    """The text in pieces that are neither interrupted by a jump nor by the end of a line."""
    words: list[Box] = []
    start = last = 0
    for found in _WORD.finditer(text):
        first, end = found.span()
        begins, ends = characters.advance_box(first), characters.advance_box(end - 1)
        if words and ("\n" in text[last:first] or text[last - 1] in LINE_HYPHENS or _is_jump(words[-1], begins)):
            yield Segment(start, last, _around(words))
            words = []
        if not words:
            start = first
        words += (begins, ends)
        last = end
    if words:
        yield Segment(start, last, _around(words))


def _around(boxes: Sequence[Box]) -> Box:
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    return Box(min(lefts), min(bottoms), max(rights), max(tops))


def _regions(segments: Sequence[Segment], depth: int) -> Iterator[Sequence[Segment]]:
    """Parts of the page in reading order, each with lines from its left to its right edge."""
    gutter = _gutter(segments) if depth else None
    if gutter is None:
        yield segments
        return
    for band in _bands(segments, gutter):
        left, right = _sides(band, gutter)
        if len(left) + len(right) == len(band) and _is_prose(left) and _is_prose(right):
            yield from _regions(left, depth - 1)
            yield from _regions(right, depth - 1)
        else:
            yield band


def _gutter(segments: Sequence[Segment]) -> float | None:
    """Where fewest segments cross a vertical stripe between two columns of prose."""
    if len(segments) < 2 * _FEWEST_LINES:
        return None
    height = sorted(segment.box.height for segment in segments)[len(segments) // 2]
    steps = sorted([(s.box.left, 1) for s in segments] + [(s.box.right, -1) for s in segments])
    most = crossing = 0
    stripes: list[tuple[int, float, float]] = []
    for (place, step), (following, _) in pairwise(steps):
        crossing += step
        most = max(most, crossing)
        if following - place >= _NARROWEST_GUTTER * height:
            stripes.append((crossing, place - following, (place + following) / 2))
    for crossing, _, middle in sorted(stripes)[:_MOST_GUTTERS]:
        if crossing > _CROSSING_SHARE * most:
            return None
        if all(len(side) >= _FEWEST_LINES and _is_prose(side) for side in _sides(segments, middle)):
            return middle
    return None


def _sides(segments: Sequence[Segment], gutter: float) -> tuple[list[Segment], list[Segment]]:
    left = [segment for segment in segments if segment.box.right <= gutter]
    right = [segment for segment in segments if segment.box.left >= gutter]
    return left, right


def _is_prose(side: Sequence[Segment]) -> bool:
    """Whether most characters are in lines that fill the column, unlike those of a table or a list of numbers."""
    if not side:
        return False
    widths = sorted(segment.box.right - segment.box.left for segment in side)
    full = widths[int(0.9 * (len(widths) - 1))] / 2
    prose = sum(
        segment.length
        for segment in side
        if segment.length >= _PROSE_CHARACTERS and segment.box.right - segment.box.left >= full
    )
    return prose >= _PROSE_SHARE * sum(segment.length for segment in side)


def _bands(segments: Sequence[Segment], gutter: float) -> Iterator[list[Segment]]:
    """From top to bottom: what spans the gutter, with all that stands in the same lines, and what lies in between."""
    band: list[Segment] = []
    spanning = False
    for row in _rows(segments):
        spans = any(part.box.left < gutter < part.box.right for part in row)
        if spans != spanning and band:
            yield band
            band = []
        spanning = spans
        band += row
    yield band


def _rows(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Segments that stand side by side, from left to right, each row below the one before."""
    row: list[Segment] = []
    for segment in sorted(segments, key=lambda one: -one.box.top):
        if row:
            shared = min(row[0].box.top, segment.box.top) - max(row[0].box.bottom, segment.box.bottom)
            if shared < min(row[0].box.height, segment.box.height) / 2:
                yield sorted(row, key=lambda one: one.box.left)
                row = []
        row.append(segment)
    yield sorted(row, key=lambda one: one.box.left)


def _are_mixed(segments: Sequence[Segment], regions: Sequence[Sequence[Segment]]) -> bool:
    """Whether pdfium goes back and forth between regions."""
    region_of = {segment.start: number for number, region in enumerate(regions) for segment in region}
    changes = sum(region_of[one.start] != region_of[other.start] for one, other in pairwise(segments))
    return len(regions) > 1 and changes > 2 * len(regions)
