"""The text of each page of a PDF, with its position in the text of the document."""

import ctypes
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

import pypdfium2
from pypdfium2 import raw

from services.indexing.pipeline.documents import PageSpan
from services.indexing.pipeline.errors import CorruptDocument, DocumentTooLarge
from services.indexing.pipeline.formats.pdf import annotations, columns, glyph_repair
from services.indexing.pipeline.formats.pdf.characters import Characters
from services.indexing.pipeline.formats.pdf.paragraphs import SENTENCE_END, Words, cut_word, reflow
from services.indexing.pipeline.formats.text import clean

_MOST_OBJECTS: Final = 1000
_SAMPLES: Final = 30
# More of a sample than this has no meaning: the text is not what the page shows.
_UNDECODABLE_SHARE: Final = 0.3
_SPACES: Final = 5
# A page of which a picture covers so much, with no more text than a header or a stamp has, is a scan.
_PICTURE_SHARE: Final = 0.5
_SHORT_TEXT: Final = 100

UNREADABLE_PAGE: Final = "unreadable_page"
UNDECODABLE_TEXT: Final = "undecodable_text"
SCANNED_PAGE: Final = "scanned_page"


@dataclass(frozen=True, slots=True)
class Page:
    text: str
    lacks: str | None = None


@dataclass(frozen=True, slots=True)
class Pages:
    """The text of all pages, their places in it, and why it is not all they show."""

    text: str
    spans: tuple[PageSpan, ...]
    partly_read: tuple[str, ...]


def read(document: pypdfium2.PdfDocument, *, max_characters: int) -> Pages:
    """Read the pages, which may hold no text at all.

    Raises:
        CorruptDocument: No page can be read.
        DocumentTooLarge: They hold more than `max_characters`.
    """
    text = _Text()
    spans: list[PageSpan] = []
    lacking: dict[str, None] = {}
    for number, page in enumerate(each(document), start=1):
        start = text.append(page.text)
        if spans:
            # A hyphen may have gone from its end.
            spans[-1] = replace(spans[-1], end=min(spans[-1].end, start))
        spans.append(PageSpan(number, start, text.length))
        if page.lacks:
            lacking[page.lacks] = None
        if text.length > max_characters:
            raise DocumentTooLarge(detail=f"more than {max_characters} characters after page {number}")
    return Pages("".join(text.parts), tuple(spans), tuple(lacking))


def each(document: pypdfium2.PdfDocument) -> Iterator[Page]:
    """The pages; one that cannot be read is empty, unless none can.

    Raises:
        CorruptDocument: No page can be read.
    """
    unreadable: pypdfium2.PdfiumError | None = None
    readable = 0
    for number in range(len(document)):
        try:
            page = _read(document, number)
        except pypdfium2.PdfiumError as error:
            unreadable = error
            yield Page("", UNREADABLE_PAGE)
        else:
            readable += 1
            yield page
    if unreadable is not None and not readable:
        raise CorruptDocument("pdf", detail=str(unreadable)) from unreadable


def _read(document: pypdfium2.PdfDocument, number: int) -> Page:
    with closing(document[number]) as page:
        held = annotations.draw(page)
        if not held.drawn:
            return _read_drawn(page, held)
    with closing(document[number]) as page:
        return _read_drawn(page, held)


def _read_drawn(page: pypdfium2.PdfPage, held: annotations.Held) -> Page:
    with closing(page.get_textpage()) as textpage:
        characters = Characters(textpage)
        undecodable = _is_undecodable(characters) if characters.units else _drops_text(page)
        glyph_repair.repair(characters)
        drawn = _joined(map(reflow, columns.blocks(characters)))
    text = "\n".join([drawn, *(clean(missing).strip() for missing in held.missing_from(drawn))]).strip()
    if undecodable:
        return Page(text, UNDECODABLE_TEXT)
    return Page(text, SCANNED_PAGE if len(text) < _SHORT_TEXT and _is_picture(page) else None)


def _joined(blocks: Iterable[str]) -> str:
    text = _Text()
    for block in blocks:
        text.append(block)
    return "".join(text.parts)


class _Text:
    """Text put together from pages, or from the columns of one."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.length = 0

    def append(self, text: str) -> int:
        """Returns where it begins. What the end of a page cuts in two is made whole: words, and sentences."""
        if text and self.length:
            self._separate(text)
        start = self.length
        if text:
            self._add(text)
        return start

    def _separate(self, text: str) -> None:
        last = self.parts[-1]
        hyphen = cut_word(last, text, Words.of(last, text)) if last.endswith("-") else None
        if hyphen == "":
            self.parts[-1] = last[:-1]
            self.length -= 1
        elif hyphen is None:
            self._add(" " if text[0].islower() and not last.endswith(SENTENCE_END) else "\n\n")

    def _add(self, part: str) -> None:
        self.parts.append(part)
        self.length += len(part)


def _is_undecodable(characters: Characters) -> bool:
    count = len(characters.units)
    sample = range(0, count, max(1, count // _SAMPLES))
    meaningless = sum(not characters.has_meaning(index) for index in sample)
    share = meaningless / max(1, len(sample))
    return share > _UNDECODABLE_SHARE or characters.undecodable > _UNDECODABLE_SHARE * (count + characters.undecodable)


def _drops_text(page: pypdfium2.PdfPage) -> bool:
    """Whether a page without text has some whose glyphs have no size, as in fonts that are neither there nor known.

    So has a space, and some programs draw a few of them on a blank page.
    """
    count = raw.FPDFPage_CountObjects(page)
    sampled = (raw.FPDFPage_GetObject(page, index) for index in range(0, count, max(1, count // _SAMPLES)))
    texts = [drawn for drawn in sampled if raw.FPDFPageObj_GetType(drawn) == raw.FPDF_PAGEOBJ_TEXT]
    return len(texts) > _SPACES or any(map(_has_height, texts))


def _has_height(text: Any) -> bool:
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    return bool(raw.FPDFPageObj_GetBounds(text, left, bottom, right, top)) and top.value > bottom.value


def _is_picture(page: pypdfium2.PdfPage) -> bool:
    width, height = page.get_size()
    for picture in islice(page.get_objects([raw.FPDF_PAGEOBJ_IMAGE], max_depth=3), _MOST_OBJECTS):
        left, bottom, right, top = picture.get_bounds()
        if (right - left) * (top - bottom) > _PICTURE_SHARE * width * height:
            return True
    return False
