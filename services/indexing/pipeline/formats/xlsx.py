"""Spreadsheets (.xlsx) to plain text, straight from the archive's XML: the sheets in order, each a section.

A row is a line with tabs between its cells; only cells that have a value are looked at, wherever they are. Formulas
show the value they had last; numbers are read as their format shows them (see `sheet.number_formats`). After the rows
come text boxes, charts and comments.

The limits are those of Word documents. A sheet that is damaged ends where the damage is; some sheet has to be whole.
"""

import zipfile
from collections.abc import Iterator
from contextlib import suppress

from lxml import etree

from services.indexing.pipeline.documents import XLSX, Extracted
from services.indexing.pipeline.errors import CorruptDocument, DocumentTooLarge
from services.indexing.pipeline.formats.limits import Limits
from services.indexing.pipeline.formats.ooxml.diagrams import chart_lines
from services.indexing.pipeline.formats.ooxml.drawing import ELEMENTS, Drawing
from services.indexing.pipeline.formats.ooxml.package import Package
from services.indexing.pipeline.formats.sheet.cells import Formats, string_of, value_of
from services.indexing.pipeline.formats.text_builder import Kind, TextBuilder
from services.indexing.pipeline.formats.xml_reading import names
from services.indexing.pipeline.formats.xml_reading.events import DAMAGE, ended, events
from services.indexing.pipeline.memory_files import Stream

DAMAGED_SHEET = "damaged_sheet"
SHEET_NAME_CHARACTERS = 100


def extract(content: memoryview, *, max_characters: int) -> Extracted:
    """Read a spreadsheet.

    Raises:
        ExtractionError: It is damaged, encrypted, holds no text, or exceeds a limit.
    """
    try:
        with zipfile.ZipFile(Stream(content)) as archive:
            package = Package(archive, Limits.of_document(max_characters))
            return _Workbook(package, max_characters).read()
    except DAMAGE as error:
        raise CorruptDocument("xlsx", detail=str(error)) from error


class _Workbook:
    def __init__(self, package: Package, max_characters: int) -> None:
        self._package = package
        self._text = TextBuilder(max_characters)
        self._max_characters = max_characters
        self._main = package.main_part
        self._from_1904 = False

    def read(self) -> Extracted:
        sheets = list(self._sheets())
        self._shared = self._strings()
        self._formats = Formats(self._elements("styles", "s:numFmt", "s:cellXfs"), from_1904=self._from_1904)
        damaged: Exception | None = None
        whole = 0
        for name, part in sheets:
            try:
                self._read_sheet(name, part)
                whole += 1
            except DAMAGE as error:
                damaged = error
            self._read_beside(name, part)
        if damaged is not None and not whole:
            raise CorruptDocument("xlsx", detail=str(damaged)) from damaged
        return self._text.extracted(XLSX, self._package.title(), partly_read=[DAMAGED_SHEET] if damaged else [])

    def _sheets(self) -> Iterator[tuple[str, str]]:
        """Names of the sheets, each with the name of its part, in order."""
        stream = self._package.opened(self._main)
        if stream is None:
            raise CorruptDocument("xlsx", detail=f"no part {self._main}")
        related = self._package.relationships(self._main)
        for name, element in ended(stream, ["s:workbookPr", "s:sheet"]):
            if name == "s:workbookPr":
                self._from_1904 = element.get("date1904", "0") in {"1", "true"}
                continue
            found = related.get(names.attribute(element, "r:id") or "")
            if found is not None:
                yield element.get("name", "")[:SHEET_NAME_CHARACTERS], found.target

    def _strings(self) -> list[str]:
        strings: list[str] = []
        left = self._max_characters
        for _, element in self._elements("sharedStrings", "s:si"):
            strings.append(string_of(element))
            left -= len(strings[-1])
            if left < 0:
                raise DocumentTooLarge(detail="shared strings")
        return strings

    def _elements(self, kind: str, *wanted: str) -> Iterator[tuple[str, etree._Element]]:
        """Elements of the workbook's only part of that kind, as far as it is not damaged."""
        for name in self._package.related(self._main, kind):
            with suppress(*DAMAGE):
                stream = self._package.opened(name)
                if stream is not None:
                    yield from ended(stream, wanted)

    def _read_sheet(self, name: str, part: str) -> None:
        stream = self._package.opened(part)
        if stream is None:
            raise zipfile.BadZipFile(f"no part {part}")
        number = 0
        with self._text.section({"sheet": name}), self._text.table() as rows:
            for _, row in ended(stream, ["s:row"]):
                told = row.get("r", "")
                number = int(told) if told.isascii() and told.isdecimal() and len(told) < 10 else number + 1
                cells = [value_of(cell, self._shared, self._formats) for cell in row]
                if any(cells):
                    rows.add(cells, number)
                _drop_previous(row)

    def _read_beside(self, sheet: str, part: str) -> None:
        with self._text.section({"sheet": sheet}):
            for name in self._package.related(part, "drawing"):
                with suppress(*DAMAGE):
                    self._drawing(name).write(self._text)
            threads = list(self._package.related(part, "threadedComment"))
            for name in threads or self._package.related(part, "comments"):
                with suppress(*DAMAGE):
                    for text in self._comments(name):
                        self._text.add(Kind.PROSE, text)

    def _drawing(self, name: str) -> Drawing:
        drawing = Drawing()
        stream = self._package.opened(name)
        if stream is None:
            return drawing
        related = self._package.relationships(name)
        with stream, suppress(*DAMAGE):
            for event, short, element in events(stream, ELEMENTS):
                drawing.feed(event, short, element)
                if event == "end" and short in {"c:chart", "cx:chart"}:
                    chart = related.get(names.attribute(element, "r:id") or "")
                    opened = None if chart is None else self._package.opened(chart.target)
                    drawing.add_lines(() if opened is None else chart_lines(opened))
        return drawing

    def _comments(self, name: str) -> Iterator[str]:
        stream = self._package.opened(name)
        if stream is not None:
            for short, element in ended(stream, ["s:text", "tc:text"]):
                yield string_of(element) if short == "s:text" else element.text or ""


def _drop_previous(row: etree._Element) -> None:
    """Memory stays flat however many rows there are."""
    previous, parent = row.getprevious(), row.getparent()
    if previous is not None and parent is not None:
        parent.remove(previous)
