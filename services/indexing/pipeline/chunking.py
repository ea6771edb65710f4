"""Text to chunks: the pieces that are embedded, stored and shown as search results.

A chunk is an exact slice of the text (`text[start:end] == chunk.text`), never empty, and chunks do not overlap.
Together they hold everything but white space. The same text gives the same chunks: point ids depend on it.

Time is linear in the length of the text, whatever its content. For every chunk the splitter scans all that follows
again, which is quadratic where it finds no boundary of a higher kind (a script without spaces: 5 s for 64,000
characters, hours for a book), so it only ever sees blocks of `_BLOCK` characters, and `_RUN` where white space is
missing.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from services.indexing.pipeline.documents import MARKDOWN, Chunk, PageSpan

# The bundled model reads 256 word pieces: about 1,000 characters of English prose, 720 of German or of source code, 330
# of alphabets it hardly knows; in scripts without spaces, one piece per character.
CHARACTERS = 720
FOREIGN_CHARACTERS = 330
DENSE_CHARACTERS = 230
# The splitter works on this much at once: at most about 2 microseconds a character.
_BLOCK = 8192
_RUN = 2048
# A block may end this early to end at a boundary, or this much earlier to keep a character with its accents.
_SHORTEST = _BLOCK // 2
_CLUSTER = 32
_DECISIVE_SHARE = 0.3
_SAMPLE = 100_000
# Thai, Hangul, kana, Han.
_DENSE = re.compile("[\u0e00-\u0e7f\u1100-\u11ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")
# Greek, Cyrillic, Hebrew, Arabic, the scripts of India and their neighbours.
_FOREIGN = re.compile("[\u0370-\u0dff\u0e80-\u10ff\u1200-\u1dff\u1f00-\u1fff]")

# A short last line that does not end like a sentence, list item or table row: what follows belongs to it.
_BARE_HEADING = re.compile(
    r"(?:\A|\n)[ ]{0,3}(?P<heading>(?:#{1,6}[ \t][^\n]{1,120}|[^\W_][^\n|\t]{0,80}[^\s.,;:!?…)\]|]))\Z"
)
_MARKDOWN_HEADING = re.compile(r"(?:\A|\n)[ ]{0,3}(?P<heading>#{1,6}[ \t][^\n]{1,200})\Z")


def chunk(
    text: str, *, content_type: str, pages: Sequence[PageSpan] | None = None, capacity: int | None = None
) -> list[Chunk]:
    """Split text at the highest boundary that fits: headings, paragraphs, lines, sentences, words.

    `capacity` is in characters, chosen by script when None. A heading that would end a chunk moves to the next one,
    which may then exceed the capacity by the length of the heading.
    """
    capacity = capacity or capacity_for(text)
    splitter = MarkdownSplitter(capacity) if content_type == MARKDOWN else TextSplitter(capacity)
    spans = [
        (begin + start, begin + start + len(piece))
        for begin, end in _blocks(text)
        for start, piece in splitter.chunk_indices(text[begin:end])
    ]
    heading = _MARKDOWN_HEADING if content_type == MARKDOWN else _BARE_HEADING
    page_starts = [page.start for page in pages or ()]
    return [
        Chunk(index, start, end, text[start:end], _page_at((start + end) // 2, pages, page_starts))
        for index, (start, end) in enumerate(_join_headings(text, spans, heading, 2 * capacity))
    ]


def capacity_for(text: str) -> int:
    sample = text[:_SAMPLE]
    decisive = _DECISIVE_SHARE * len(sample)
    if len(_DENSE.findall(sample)) > decisive:
        return DENSE_CHARACTERS
    return FOREIGN_CHARACTERS if len(_FOREIGN.findall(sample)) > decisive else CHARACTERS


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Consecutive ranges for the splitter, which end at the highest boundary in their second half."""
    begin = 0
    while len(text) - begin > _BLOCK:
        end = _end_of_block(text, begin)
        yield begin, end
        begin = end
    yield begin, len(text)


def _end_of_block(text: str, begin: int) -> int:
    earliest, latest = begin + _SHORTEST, begin + _BLOCK
    for boundary in ("\n\n", "\n", ". ", "\u3002", " "):
        found = text.rfind(boundary, earliest, latest)
        if found >= 0:
            return found + len(boundary)
    cut = begin + _RUN
    while cut > begin + _RUN - _CLUSTER and _continues(text[cut - 1], text[cut]):
        cut -= 1
    return cut


def _continues(before: str, character: str) -> bool:
    """Whether a reader sees the character as part of the one before: accents, selectors, joined emoji."""
    return before == "\u200d" or character == "\u200d" or unicodedata.category(character) in ("Mn", "Me", "Mc")


def _join_headings(
    text: str, spans: list[tuple[int, int]], heading: re.Pattern[str], longest: int
) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    carried: int | None = None
    for start, end in spans[:-1]:
        begin = start if carried is None else carried
        found = heading.search(text[start:end])
        # Page after page of headings must not become one chunk.
        if found is None or end - begin > longest:
            joined.append((begin, end))
            carried = None
            continue
        at = start + found.start("heading")
        # A piece that is only a heading joins those carried already.
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
