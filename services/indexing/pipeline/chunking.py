"""Text to chunks: the pieces that are embedded, stored and shown as search results.

A chunk is an exact slice of the text (`text[start:end] == chunk.text`), never empty, and chunks do not overlap.
Together they hold everything but white space. The same text gives the same chunks: point ids depend on it.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from services.indexing.pipeline.documents import MARKDOWN, PageSpan

# The bundled model reads 256 word pieces: about 1,000 characters of English prose, 720 of German or of source code, 330
# of alphabets it hardly knows, one a character in scripts without spaces.
CHARACTERS = 720
FOREIGN_CHARACTERS = 330
DENSE_CHARACTERS = 230
_DECISIVE_SHARE = 0.3
_SAMPLE = 100_000
# Thai, Hangul, kana, Han.
_DENSE = re.compile("[\u0e00-\u0e7f\u1100-\u11ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")
# Greek, Cyrillic, Hebrew, Arabic, the scripts of India and their neighbours.
_FOREIGN = re.compile("[\u0370-\u0dff\u0e80-\u10ff\u1200-\u1dff\u1f00-\u1fff]")

# A short last line after a line break, which ends like no sentence, list item or table row: what follows belongs to it.
_BARE_HEADING = re.compile(
    r"(?:\A|\n)[ ]{0,3}(?P<heading>(?:#{1,6}[ \t][^\n]{1,120}|[^\W_][^\n|\t]{0,80}[^\s.,;:!?…)\]|]))\Z"
)
_MARKDOWN_HEADING = re.compile(r"(?:\A|\n)[ ]{0,3}(?P<heading>#{1,6}[ \t][^\n]{1,200})\Z")


@dataclass(frozen=True, slots=True)
class Chunk:
    """`index` counts from 0; `start` and `end` are characters in the text; `page` is where its middle lies."""

    index: int
    start: int
    end: int
    text: str
    page: int | None


def chunk(
    text: str, *, content_type: str, pages: Sequence[PageSpan] | None = None, capacity: int | None = None
) -> list[Chunk]:
    """Split text at the highest boundary that fits: headings, paragraphs, lines, sentences, words.

    `capacity` is in characters, chosen by script when None. A heading that would end a chunk moves to the next one,
    which may then exceed the capacity by the length of the heading.
    """
    capacity = capacity or capacity_for(text)
    splitter = MarkdownSplitter(capacity) if content_type == MARKDOWN else TextSplitter(capacity)
    spans = [(start, start + len(piece)) for start, piece in splitter.chunk_indices(text)]
    heading = _MARKDOWN_HEADING if content_type == MARKDOWN else _BARE_HEADING
    page_starts = [page.start for page in pages or ()]
    return [
        Chunk(index, start, end, text[start:end], _page_at((start + end) // 2, pages, page_starts))
        for index, (start, end) in enumerate(_join_headings(text, spans, heading))
    ]


def capacity_for(text: str) -> int:
    sample = text[:_SAMPLE]
    decisive = _DECISIVE_SHARE * len(sample)
    if len(_DENSE.findall(sample)) > decisive:
        return DENSE_CHARACTERS
    return FOREIGN_CHARACTERS if len(_FOREIGN.findall(sample)) > decisive else CHARACTERS


def _join_headings(text: str, spans: list[tuple[int, int]], heading: re.Pattern[str]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    carried: int | None = None
    for start, end in spans[:-1]:
        begin = start if carried is None else carried
        found = heading.search(text[start:end])
        if found is None:
            joined.append((begin, end))
            carried = None
            continue
        at = start + found.start("heading")
        # A piece that is nothing but a heading joins those carried already.
        before = "" if at == start else text[begin:at].rstrip()
        carried = at if before else begin
        if before:
            joined.append((begin, begin + len(before)))
    for start, end in spans[-1:]:
        joined.append((start if carried is None else carried, end))
    return joined


def _page_at(position: int, pages: Sequence[PageSpan] | None, page_starts: list[int]) -> int | None:
    if not pages:
        return None
    return pages[max(bisect_right(page_starts, position) - 1, 0)].number
