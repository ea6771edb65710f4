"""PDF to plain text, page by page, with lines joined back into paragraphs."""

import ctypes
import re
from collections.abc import Iterator
from contextlib import closing

import pypdfium2
import pypdfium2.raw

from services.indexing.pipeline.documents import PDF, Extracted, PageSpan
from services.indexing.pipeline.errors import CorruptDocument, DocumentEncrypted, DocumentTooLarge, EmptyDocument
from services.indexing.pipeline.formats.pdf import fonts
from services.indexing.pipeline.formats.text import clean, clean_title

# pdfium marks the hyphen it found at a line's end with one of these.
_LINE_HYPHEN = re.compile("[\x02\ufffe](?:\r?\n)?")
_LIST_ITEM = re.compile(r"(?:[-*•‣◦▪–—]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s")
_SENTENCE_END = (".", "!", "?", ":", ";", "。", "！", "？")
_SAMPLE = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>endobj
4 0 obj<</Length 33>>stream
BT /F 9 Tf 9 9 Td (warm up) Tj ET
endstream endobj
5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj
trailer<</Root 1 0 R>>"""

# A line shorter than this share of the page's widest ones ends its paragraph.
_FULL_LINE_SHARE = 0.7


def extract(content: memoryview, *, max_characters: int) -> Extracted:
    with closing(_open(content)) as document:
        text, pages = _join(_pages(document), max_characters)
        title = clean_title(document.get_metadata_dict().get("Title"))
    return Extracted(text, PDF, pages, title)


def warm_up() -> None:
    """Let pdfium load what it loads lazily, which takes it longer than reading a short document."""
    with closing(pypdfium2.PdfDocument(_SAMPLE)) as document:
        for text in _pages(document):
            reflow(text)


def _open(content: memoryview) -> pypdfium2.PdfDocument:
    fonts.install()
    # pdfium needs an address, which only writable memory exposes.
    source = bytes(content) if content.readonly else (ctypes.c_char * len(content)).from_buffer(content)
    try:
        document = pypdfium2.PdfDocument(source)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise DocumentEncrypted() from error
        raise CorruptDocument("pdf", detail=str(error)) from error
    if not len(document):
        raise CorruptDocument("pdf", detail="no pages")
    return document


def _pages(document: pypdfium2.PdfDocument) -> Iterator[str]:
    """The text of each page; a page that cannot be read is empty, unless no page can."""
    unreadable: pypdfium2.PdfiumError | None = None
    readable = 0
    for number in range(len(document)):
        try:
            page = document[number]
            text = page.get_textpage().get_text_range()
            page.close()
        except pypdfium2.PdfiumError as error:
            unreadable = error
            yield ""
        else:
            readable += 1
            yield reflow(text)
    if unreadable is not None and not readable:
        raise CorruptDocument("pdf", detail=str(unreadable)) from unreadable


def _join(pages: Iterator[str], max_characters: int) -> tuple[str, tuple[PageSpan, ...]]:
    parts: list[str] = []
    spans: list[PageSpan] = []
    length, last = 0, ""
    for number, text in enumerate(pages, start=1):
        if text and length:
            # A sentence that runs over the page break stays one sentence.
            separator = " " if text[0].islower() and not last.endswith(_SENTENCE_END) else "\n\n"
            parts.append(separator)
            length += len(separator)
        parts.append(text)
        spans.append(PageSpan(number, length, length + len(text)))
        length += len(text)
        last = text or last
        if length > max_characters:
            raise DocumentTooLarge(detail=f"more than {max_characters} characters after page {number}")
    if not length:
        raise EmptyDocument("pdf")
    return "".join(parts), tuple(spans)


def reflow(page: str) -> str:
    """Join the lines of a page into paragraphs, one line each, and the words that line ends cut in two."""
    lines = [line.strip() for line in clean(_LINE_HYPHEN.sub("-\n", page)).split("\n")]
    widths = sorted(len(line) for line in lines if line)
    if not widths:
        return ""
    full = _FULL_LINE_SHARE * widths[int(0.9 * (len(widths) - 1))]
    paragraphs: list[str] = []
    open_paragraph = False
    for line in lines:
        if not line:
            open_paragraph = False
            continue
        if open_paragraph and not _LIST_ITEM.match(line):
            paragraphs[-1] = _append_line(paragraphs[-1], line)
        else:
            paragraphs.append(line)
        open_paragraph = len(line) >= full
    return "\n".join(paragraphs)


def _append_line(paragraph: str, line: str) -> str:
    if len(paragraph) > 1 and paragraph[-1] == "-" and paragraph[-2].isalpha() and line[0].islower():
        return paragraph[:-1] + line
    return f"{paragraph} {line}"
