"""Text to chunks: the pieces that are embedded, stored and shown as search results.

A chunk is an exact slice of the text (`text[start:end] == chunk.text`) that has a word and is no longer than the
capacity, and chunks do not overlap. Together they hold every word: what lies between them is white space, and signs
that did not fit beside a word. The same text gives the same chunks: point ids depend on it.

Time is linear in the length of the text, whatever its content. For every chunk the splitter scans all that follows
again, which is quadratic where it finds no boundary of a higher kind (a script without spaces: 5 s for 64,000
characters, hours for a book), so it only ever sees blocks of `_BLOCK` characters, and `_RUN` where white space is
missing.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from services.indexing.pipeline.chunk_context import Surroundings
from services.indexing.pipeline.documents import MARKDOWN, NO_STRUCTURE, Chunk, PageSpan, Section, Structure

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
_BOUNDARIES = ("\n\n", "\n", ". ", "\u3002", " ")
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
_WORD = re.compile(r"[^\W_]")
_MARKDOWN_HEADING = re.compile(r"(?:\A|\n)[ ]{0,3}(?P<heading>#{1,6}[ \t][^\n]{1,200})\Z")


def chunk(
    text: str,
    *,
    content_type: str,
    pages: Sequence[PageSpan] | None = None,
    structure: Structure = NO_STRUCTURE,
    title: str | None = None,
    capacity: int | None = None,
) -> list[Chunk]:
    """Split text at the highest boundary that fits: headings, paragraphs, lines, sentences, words.

    `capacity` is in characters, chosen by script when None; a chunk and its context have room in it. A heading that
    would end a chunk moves to the next one. No chunk goes beyond a section of the `structure`.
    """
    capacity = capacity or capacity_for(text)
    around = Surroundings(text, structure, pages, title, capacity)
    spans = [
        (begin + start, begin + end)
        for begin, past in _parts(text, structure.sections)
        for start, end in _spans(text[begin:past], content_type, capacity - around.reserved(begin, past))
    ]
    return [
        Chunk(
            index,
            start,
            end,
            text[start:end],
            around.page(start, end),
            around.location(start, end),
            around.context(start, end),
        )
        for index, (start, end) in enumerate(spans)
    ]


def _parts(text: str, sections: Sequence[Section]) -> Iterator[tuple[int, int]]:
    """The sections, and what is between them."""
    end = 0
    for section in sections:
        if section.start > end:
            yield end, section.start
        yield section.start, section.end
        end = section.end
    yield end, len(text)


def _spans(text: str, content_type: str, capacity: int) -> list[tuple[int, int]]:
    if len(text) <= capacity:
        # Slides and records are many and short.
        return _with_words(text, iter([(0, len(text))]), capacity)
    splitter = MarkdownSplitter(capacity) if content_type == MARKDOWN else TextSplitter(capacity)
    spans = [
        (begin + start, begin + start + len(piece))
        for begin, end in _blocks(text)
        for start, piece in splitter.chunk_indices(text[begin:end])
    ]
    heading = _MARKDOWN_HEADING if content_type == MARKDOWN else _BARE_HEADING
    return _with_words(text, _join_headings(text, spans, heading, capacity), capacity)


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
    return _boundary(text, begin + _SHORTEST, begin + _BLOCK) or _end_of_character(text, begin + _RUN)


def _boundary(text: str, earliest: int, latest: int) -> int | None:
    for boundary in _BOUNDARIES:
        found = text.rfind(boundary, earliest, latest)
        if found >= 0:
            return found + len(boundary)
    return None


def _end_of_character(text: str, latest: int) -> int:
    cut = latest
    while cut > latest - _CLUSTER and _continues(text[cut - 1], text[cut]):
        cut -= 1
    return cut


def _continues(before: str, character: str) -> bool:
    """Whether a reader sees the character as part of the one before: accents, selectors, joined emoji."""
    return before == "\u200d" or character == "\u200d" or unicodedata.category(character) in ("Mn", "Me", "Mc")


def _join_headings(
    text: str, spans: list[tuple[int, int]], heading: re.Pattern[str], capacity: int
) -> Iterator[tuple[int, int]]:
    """The spans with each heading at an end moved to the next one, and then cut again where they are too long."""
    carried: tuple[int, int] | None = None
    for index, (start, end) in enumerate(spans):
        begin = start
        if carried is not None:
            # Page after page of headings, or of white space behind one, must not become one chunk.
            if start - carried[0] <= capacity // 2:
                begin = carried[0]
            else:
                yield carried
        *pieces, (begin, _) = _cut(text, begin, end, capacity)
        yield from pieces
        carried = None
        # What was carried is headings only, unless it has just been cut off.
        searched = max(begin, start)
        found = heading.search(text[searched:end])
        if found is None or index == len(spans) - 1:
            if pieces and end - begin < capacity // 4:
                # The little that is left of a span continues in the next one.
                carried = (begin, end)
            else:
                yield begin, end
            continue
        at = searched + found.start("heading")
        if text[searched:at].strip():
            yield begin, at
            begin = at
        # What is only a heading joins those carried already.
        carried = (begin, end)
    if carried is not None:
        yield carried


def _cut(text: str, begin: int, end: int, capacity: int) -> Iterator[tuple[int, int]]:
    while end - begin > capacity:
        latest = begin + capacity
        middle = _boundary(text, begin + capacity // 2, latest) or _end_of_character(text, latest)
        middle = max(middle, begin + capacity // 2)
        yield begin, middle
        begin = middle
    yield begin, end


def _with_words(text: str, spans: Iterator[tuple[int, int]], capacity: int) -> list[tuple[int, int]]:
    """The spans without white space at their ends; one without a word joins a neighbour that has room."""
    kept: list[tuple[int, int]] = []
    wordless: int | None = None
    for span in spans:
        start, end = _trimmed(text, *span)
        if start == end:
            continue
        if _WORD.search(text, start, end):
            kept.append((start if wordless is None or end - wordless > capacity else wordless, end))
            wordless = None
        elif kept and end - kept[-1][0] <= capacity:
            kept[-1] = (kept[-1][0], end)
        else:
            wordless = start
    return kept


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())
