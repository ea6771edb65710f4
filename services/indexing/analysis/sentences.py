"""Sentences of texts, each an exact slice.

Sentences end where the rules of `sentencex` say so, which know the abbreviations of many languages; and with the block
they are in: a paragraph, heading, list item or row of a table. Lines of one paragraph are joined where a line is long
enough to have been wrapped. A sentence of more than `LONGEST` code points is cut at a space, so that what is shown of a
text without full stops is a passage and not all of it. Time is linear in the length of the text.
"""

import re
from collections.abc import Iterator
from typing import Final

import sentencex

from services.indexing.analysis.analyzer import Span

LONGEST: Final = 480

# A shorter line ends where its writer wanted it to.
_WRAPPED: Final = 45
_LIST_ITEM: Final = re.compile(r"[ \t]*(?:[-*+•‣▪●◦–—]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])[ \t]+")
_OWN_LINE: Final = re.compile(r"[ \t]*(?:#{1,6}[ \t]|\||>|={3,}|-{3,})")
_ROW: Final = re.compile(r"\t|[ \t]\|[ \t]")
_HEADING_MARKS: Final = re.compile(r"[ \t]*(?:#{1,6}[ \t]+|>[ \t]*)")
_LINE: Final = re.compile(r"[^\n\r\u2028\u2029\x0b\x0c]+")
_LEAST_CUT: Final = LONGEST // 2


def spans(text: str, language: str | None = None) -> Iterator[Span]:
    """Half-open ranges of the sentences, in order, without white space, list marks and heading marks around them."""
    known = (language or "en").split("-")[0].lower()
    for start, end in _blocks(text):
        block = text[start:end]
        if _ROW.search(block) or _OWN_LINE.match(block):
            yield from _cut(text, *_trimmed(text, start, end))
            continue
        for found in sentencex.get_sentence_boundaries(known, block):
            yield from _cut(text, *_trimmed(text, start + found["start_index"], start + found["end_index"]))


def _blocks(text: str) -> Iterator[Span]:
    """Paragraphs, list items, rows and headings."""
    begin: int | None = None
    previous: Span | None = None
    for line in _LINE.finditer(text):
        if not line.group().strip():
            continue
        if previous is not None and begin is not None and _breaks(text, previous, line.span()):
            yield begin, previous[1]
            begin = None
        if begin is None:
            begin = _after_mark(line)
        previous = line.span()
    if previous is not None and begin is not None:
        yield begin, previous[1]


def _breaks(text: str, previous: Span, line: Span) -> bool:
    between = text[previous[1] : line[0]]
    before, after = text[slice(*previous)], text[slice(*line)]
    return (
        between.replace("\r\n", "\n").count("\n") != 1
        or len(before.strip()) < _WRAPPED
        or any(pattern.match(after) for pattern in (_LIST_ITEM, _OWN_LINE))
        or _OWN_LINE.match(before) is not None
        or _ROW.search(before) is not None
        or _ROW.search(after) is not None
    )


def _after_mark(line: re.Match[str]) -> int:
    mark = _LIST_ITEM.match(line.group()) or _HEADING_MARKS.match(line.group())
    return line.start() + (0 if mark is None else mark.end())


def _trimmed(text: str, start: int, end: int) -> Span:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())


def _cut(text: str, start: int, end: int) -> Iterator[Span]:
    while end - start > LONGEST:
        space = text.rfind(" ", start + _LEAST_CUT, start + LONGEST)
        middle = space if space >= 0 else start + LONGEST
        yield start, middle
        start = middle + 1 if space >= 0 else middle
    if start < end:
        yield start, end
