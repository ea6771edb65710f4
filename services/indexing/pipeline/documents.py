"""The results of extraction: plain text, and where its pages, slides, sheets, tables and headings are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from typing_extensions import TypedDict

PLAIN_TEXT = "text/plain"
MARKDOWN = "text/markdown"
HTML = "text/html"
PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ODT = "application/vnd.oasis.opendocument.text"
ODS = "application/vnd.oasis.opendocument.spreadsheet"
ODP = "application/vnd.oasis.opendocument.presentation"
EPUB = "application/epub+zip"
RTF = "application/rtf"
EML = "message/rfc822"
CSV = "text/csv"
TSV = "text/tab-separated-values"
JSON = "application/json"
JSON_LINES = "application/jsonl"
NOTEBOOK = "application/x-ipynb+json"
XML = "application/xml"
SOURCE_CODE = "text/x-source"

SUPPORTED_CONTENT_TYPES = frozenset(
    {
        *(PLAIN_TEXT, MARKDOWN, HTML, PDF, DOCX, PPTX, XLSX, ODT, ODS, ODP, EPUB, RTF, EML),
        *(CSV, TSV, JSON, JSON_LINES, NOTEBOOK, XML, SOURCE_CODE),
    }
)


class Location(TypedDict, total=False):
    """Where in its document a passage is, as far as the format tells.

    `page`, `slide` and `cell` (of a notebook) are numbers counted from 1; `rows` (of a sheet or a list of records) and
    `lines` (of source code) the first and the last one; `headings` those the passage is under, outermost first, or the
    classes and functions that it is in.
    """

    page: int
    slide: int
    sheet: str
    cell: int
    rows: tuple[int, int]
    lines: tuple[int, int]
    headings: list[str]


@dataclass(frozen=True, slots=True)
class PageSpan:
    """One page: its number, counted from 1, and its half-open range of characters in the extracted text."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Section:
    """A part that stands for itself, such as a slide or a sheet: no chunk goes beyond its range of characters."""

    start: int
    end: int
    location: Location


@dataclass(frozen=True, slots=True)
class Table:
    """Rows (of cells, or lines of code) in a range of characters; `header` names their columns, or is empty.

    `starts` are where rows begin, `numbers` what the rows are called; both empty when rows have no numbers.
    """

    start: int
    end: int
    header: str = ""
    starts: Sequence[int] = ()
    numbers: Sequence[int] = ()
    unit: Literal["rows", "lines"] = "rows"


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading and where its line begins. `level` counts from 1, the outermost."""

    start: int
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Structure:
    """What a document consists of; each kind in order, and but for headings without overlap."""

    sections: tuple[Section, ...] = ()
    tables: tuple[Table, ...] = ()
    headings: tuple[Heading, ...] = ()


NO_STRUCTURE = Structure()


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
    structure: Structure = NO_STRUCTURE


@dataclass(frozen=True, slots=True)
class Chunk:
    """`index` counts from 0; `start` and `end` are characters in the text; `page` is where its middle lies.

    `context` is what the chunk says nothing of by itself and is searched with it: the document's title, the headings it
    is under, the header of the table it continues. It is not part of the text.
    """

    index: int
    start: int
    end: int
    text: str
    page: int | None
    location: Location | None = None
    context: str = ""

    @property
    def searched(self) -> str:
        """The text as it is embedded."""
        return f"{self.context}\n\n{self.text}" if self.context else self.text


@dataclass(frozen=True, slots=True)
class ChunkedDocument:
    """The chunks of a document, in order and without overlap. No word lies between them."""

    content_type: str
    title: str | None
    chunks: list[Chunk]
    partly_read: tuple[str, ...] = ()
