"""The results of extraction: plain text, and where each of its pages begins and ends."""

from dataclasses import dataclass

PLAIN_TEXT = "text/plain"
MARKDOWN = "text/markdown"
HTML = "text/html"
PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

SUPPORTED_CONTENT_TYPES = frozenset({PLAIN_TEXT, MARKDOWN, HTML, PDF, DOCX})


@dataclass(frozen=True, slots=True)
class PageSpan:
    """One page: its number, counted from 1, and its half-open range of characters in the extracted text."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of one document.

    `text` is NFC, has "\\n" line ends and no control characters but tab and newline. Blank lines carry structure where
    the format had any: two newlines between paragraphs, three before a heading, one between a heading and what follows.
    `content_type` is what the bytes are, whatever was declared. `pages` is None for formats without pages, otherwise in
    order and without overlap. `partly_read` says, as codes, why the document shows more than its text.
    """

    text: str
    content_type: str
    pages: tuple[PageSpan, ...] | None
    title: str | None
    partly_read: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """`index` counts from 0; `start` and `end` are characters in the text; `page` is where its middle lies."""

    index: int
    start: int
    end: int
    text: str
    page: int | None


@dataclass(frozen=True, slots=True)
class ChunkedDocument:
    """The chunks of a document, in order and without overlap. No word lies between them."""

    content_type: str
    title: str | None
    chunks: list[Chunk]
    partly_read: tuple[str, ...] = ()
