"""OpenDocument texts, spreadsheets and presentations (.odt, .ods, .odp; ISO/IEC 26300) to plain text.

A sheet and a slide are sections; a row is a line with tabs between its cells, which show what they show in the program.
Notes, comments, and the tables, charts and formulas that are objects come before the paragraph they are in, headers and
footers of pages last, each text once. What change tracking keeps of deleted text is left out.

The limits are those of Word documents. Cells and rows that are said to repeat count as often as `_MOST_REPEATED`.
"""

import re
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from lxml import etree

from services.indexing.pipeline.documents import ODP, ODS, Extracted, Location
from services.indexing.pipeline.errors import CorruptDocument, DocumentEncrypted
from services.indexing.pipeline.formats.limits import Limits
from services.indexing.pipeline.formats.ooxml.package import Package, part_name
from services.indexing.pipeline.formats.text_builder import HEADING_CHARACTERS, Kind, Rows, TextBuilder
from services.indexing.pipeline.formats.xml_reading import names
from services.indexing.pipeline.formats.xml_reading.events import DAMAGE, ended, events
from services.indexing.pipeline.memory_files import Stream

DAMAGED_CONTENT = "damaged_content"
_MOST_REPEATED = 100
_MOST_SPACES = 100
_SPACES = re.compile("[ \t\r\n]+")
_MARGINS = ("style:header", "style:footer", "style:header-left", "style:footer-left")
_SKIPPED = frozenset({"text:tracked-changes", "office:forms", "table:tracked-changes", "draw:glue-point"})
_STARTS = ("table:table", "table:table-row", "table:table-cell", "draw:page", "draw:frame", "draw:object", "text:list")
_OF_OBJECTS = ("table:table-row", "chart:title", "chart:subtitle", "math:annotation")
_ENDS = ("text:p", "text:h", "table:covered-table-cell", "svg:title", "svg:desc")
# What stands in a paragraph and is no part of it, and has been read when the paragraph ends.
_APART = frozenset({"text:note", "office:annotation", "text:p", "text:h", "draw:frame", "draw:custom-shape", "draw:a"})


def extract(content: memoryview, content_type: str, *, max_characters: int) -> Extracted:
    """Read an OpenDocument file of one of the three types.

    Raises:
        ExtractionError: It is damaged, encrypted, holds no text, or exceeds a limit.
    """
    try:
        with zipfile.ZipFile(Stream(content)) as archive:
            package = Package(archive, Limits.of_document(max_characters))
            _require_no_encryption(package)
            text = TextBuilder(max_characters)
            damaged = not _read_content(package, _Body(text, content_type, package))
            for margin in _margins(package):
                text.add(Kind.PROSE, margin)
            title = next(_texts(package, "/meta.xml", "dc:title"), None)
            return text.extracted(content_type, title, partly_read=[DAMAGED_CONTENT] if damaged else [])
    except DAMAGE as error:
        raise CorruptDocument("opendocument", detail=str(error)) from error


def _require_no_encryption(package: Package) -> None:
    stream = package.opened("/meta-inf/manifest.xml")
    if stream is None:
        return
    with suppress(*DAMAGE):
        for _ in ended(stream, ["manifest:encryption-data"]):
            raise DocumentEncrypted()


def _read_content(package: Package, body: "_Body") -> bool:
    """Returns whether it is whole; a damaged one ends where the damage is."""
    stream = package.opened("/content.xml")
    if stream is None:
        raise CorruptDocument("opendocument", detail="no content")
    with stream, body:
        try:
            for event, name, element in events(stream, [*_STARTS, *_ENDS, *_SKIPPED]):
                body.feed(event, name, element)
        except DAMAGE:
            if body.text.is_empty:
                raise
            return False
    return True


def _margins(package: Package) -> Iterator[str]:
    """Headers and footers of pages; every text once."""
    said: set[str] = set()
    for text in _texts(package, "/styles.xml", *_MARGINS):
        if text not in said:
            said.add(text)
            yield text


def _texts(package: Package, part: str, *wanted: str) -> Iterator[str]:
    """The texts of elements, as far as the part is not damaged."""
    with suppress(*DAMAGE):
        stream = package.opened(part)
        if stream is not None:
            for _, element in ended(stream, wanted):
                paragraphs = [inline(inner) for inner in element.iter("{*}p", "{*}h")]
                yield "\n".join(paragraphs) if paragraphs else inline(element)


class _Body:
    """The content, fed one XML event at a time; elements are emptied once read."""

    def __init__(self, text: TextBuilder, content_type: str, package: Package) -> None:
        self.text = text
        self._package = package
        self._objects = {"/content.xml"}
        self._is_sheets = content_type == ODS
        self._is_slides = content_type == ODP
        self._parts = ExitStack()
        self._table: Rows | None = None
        self._tables = 0
        self._row = 0
        self._cells: list[list[str]] = []
        self._depth_of_rows: list[int] = []
        self._lists = 0
        self._slide = 0
        self._is_title = False
        self._skipping = 0

    def __enter__(self) -> "_Body":
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def feed(self, event: str, name: str, element: etree._Element) -> None:
        if self._skipping or (event == "start" and name in _SKIPPED):
            self._skipping += 1 if event == "start" else -1
        elif event == "start":
            self._start(name, element)
        else:
            self._end(name, element)

    def _start(self, name: str, element: etree._Element) -> None:
        match name:
            case "draw:page" if self._is_slides:
                self._slide += 1
                self._open({"slide": self._slide})
            case "table:table":
                self._tables += 1
                if self._tables == 1:
                    if self._is_sheets:
                        self._open({"sheet": (names.attribute(element, "table:name") or "")[:HEADING_CHARACTERS]})
                        self._row = 0
                    self._table = self._parts.enter_context(self.text.table())
            case "table:table-row":
                self._depth_of_rows.append(len(self._cells))
            case "table:table-cell" if self._depth_of_rows:
                self._cells.append([])
            case "text:list":
                self._lists += 1
            case "draw:frame":
                self._is_title = names.attribute(element, "presentation:class") == "title"
            case "draw:object":
                self._read_object(part_name(f"{names.attribute(element, 'xlink:href')}/content.xml"))

    def _end(self, name: str, element: etree._Element) -> None:
        match name:
            case "text:p" | "text:h" | "svg:title" | "svg:desc":
                self._add(name, element)
                element.clear(keep_tail=True)
            case "table:table-cell" | "table:table-row" if self._depth_of_rows:
                self._end_of_table(name, element)
            case "table:table" if self._tables:
                self._tables -= 1
                if not self._tables:
                    self._table = None
                    if not self._is_slides:
                        self._parts.close()
            case "draw:page":
                self._parts.close()
            case "text:list":
                self._lists -= 1
            case "draw:frame":
                self._is_title = False

    def _open(self, location: Location) -> None:
        self._parts.close()
        self._parts.enter_context(self.text.section(location))

    def _read_object(self, part: str) -> None:
        """Add the text of a spreadsheet, chart or formula, unless it has been read before."""
        if part in self._objects:
            return
        self._objects.add(part)
        for text in _texts(self._package, part, *_OF_OBJECTS):
            line = text.replace("\n", "\t").strip()
            if not self._cells:
                self.text.add(Kind.LINE, line)
            elif line:
                self._cells[-1].append(line)

    def _add(self, name: str, element: etree._Element) -> None:
        text = inline(element)
        if self._cells:
            if text:
                self._cells[-1].append(text)
        elif name == "text:h" or self._is_title:
            level = names.attribute(element, "text:outline-level") or ""
            self.text.add(Kind.HEADING, text, level=int(level) if level in set("123456789") else 1)
        else:
            self.text.add(Kind.LINE if self._lists else Kind.PROSE, text)

    def _end_of_table(self, name: str, element: etree._Element) -> None:
        if name == "table:table-cell":
            times = _times(names.attribute(element, "table:number-columns-repeated"))
            if self._cells and self._cells[-1]:
                self._cells += [self._cells[-1]] * (min(times, _MOST_REPEATED) - 1)
            return
        first = self._depth_of_rows.pop()
        cells = [" ".join(cell) for cell in self._cells[first:]]
        del self._cells[first:]
        if self._cells:
            # A table in a cell of a table.
            self._cells[-1].append("\t".join(cell for cell in cells if cell))
            return
        times = _times(names.attribute(element, "table:number-rows-repeated"))
        if any(cells) and self._table is not None:
            for number in range(self._row + 1, self._row + 1 + min(times, _MOST_REPEATED)):
                self._table.add(cells, number if self._is_sheets else None)
        self._row += times
        element.clear(keep_tail=True)
        previous, parent = element.getprevious(), element.getparent()
        if previous is not None and parent is not None and names.short(previous) == name:
            # Memory stays flat however many rows there are.
            parent.remove(previous)


def inline(element: etree._Element) -> str:
    """The text of a paragraph, with white space as the standard has it (part 3, 6.1.2)."""
    return "".join(_pieces(element)).strip()


def _pieces(element: etree._Element) -> Iterator[str]:
    yield _collapsed(element.text)
    for child in element:
        name = names.short(child) if isinstance(child.tag, str) else ""
        match name:
            case "text:s":
                yield " " * min(_times(names.attribute(child, "text:c")), _MOST_SPACES)
            case "text:tab":
                yield "\t"
            case "text:line-break":
                yield "\n"
            case _ if name and name not in _APART:
                yield from _pieces(child)
        yield _collapsed(child.tail)


def _collapsed(text: str | None) -> str:
    return _SPACES.sub(" ", text) if text else ""


def _times(told: str | None) -> int:
    """How often something repeats, at least once; 2,000,000 at most, which is more than any sheet has rows."""
    if told is None or not told.isascii() or not told.isdecimal():
        return 1
    return min(max(int(told[:10]), 1), 2_000_000)
