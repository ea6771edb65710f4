"""Puts a document's text together, piece by piece, and keeps where its headings, sections and tables are.

Every piece is brought into the form `Extracted` promises before its place is noted, so places stay true.
"""

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum

from services.indexing.pipeline.documents import Extracted, Heading, Location, Section, Structure, Table
from services.indexing.pipeline.errors import DocumentTooLarge
from services.indexing.pipeline.formats.text import HEADER_CHARACTERS, clean, clean_title, required

HEADING_CHARACTERS = 120

_LONGEST_COLUMN_NAME = 80
# A sheet may begin with a title and a date before its columns are named.
_ROWS_BEFORE_A_HEADER = 10
_NUMBER = re.compile(r"[^\w]*[\d.,:/%\s+-]*\d[\d.,:/%\s+-]*[^\w]*")


class Kind(Enum):
    """Consecutive lines (list items, table rows) belong together, and what follows a heading belongs to it."""

    HEADING = "heading"
    LINE = "line"
    PROSE = "prose"


class TextBuilder:
    """Whatever adds text raises DocumentTooLarge once there are more than `max_characters`."""

    def __init__(self, max_characters: int) -> None:
        self._max_characters = max_characters
        self._parts: list[str] = []
        self._length = 0
        self._above: Kind | None = None
        self._first: int | None = None
        self._sections: list[Section] = []
        self._tables: list[Table] = []
        self._headings: list[Heading] = []

    @property
    def is_empty(self) -> bool:
        return not self._parts

    def add(self, kind: Kind, text: str, *, level: int = 1) -> None:
        """Add a block of text, if any of it can be seen. `level` is a heading's."""
        cleaned = clean(text)
        start = self.add_clean(kind, cleaned.strip() if kind is Kind.HEADING else cleaned.strip("\n").rstrip())
        if start is not None and kind is Kind.HEADING:
            self._headings.append(Heading(start, level, " ".join(cleaned.split())[:HEADING_CHARACTERS]))

    def embed(self, extracted: Extracted) -> None:
        """Add the text of another document as a block, with its headings and tables."""
        start = self.add_clean(Kind.PROSE, extracted.text)
        if start is None:
            return
        structure = extracted.structure
        self._headings += [Heading(start + one.start, one.level, one.text) for one in structure.headings]
        self._tables += [
            replace(
                one,
                start=start + one.start,
                end=start + one.end,
                starts=[start + row for row in one.starts],
            )
            for one in structure.tables
        ]

    @contextmanager
    def section(self, location: Location) -> Iterator[None]:
        """What is added within the block is a part of its own. Sections do not contain each other."""
        self._begin_section()
        yield
        if self._first is not None:
            self._sections.append(Section(self._first, self._length, location))
        self._above = None

    def _begin_section(self) -> None:
        self._above = self._first = None

    @contextmanager
    def table(self) -> Iterator["Rows"]:
        """The rows added within the block belong together."""
        rows = Rows(self)
        yield rows
        if rows.first is not None:
            self._tables.append(Table(rows.first, self._length, rows.header, rows.starts, rows.numbers))

    def extracted(self, content_type: str, title: str | None = None, *, partly_read: Iterable[str] = ()) -> Extracted:
        """The document.

        Raises:
            EmptyDocument: It has no text.
        """
        return Extracted(
            required("".join(self._parts)),
            content_type,
            None,
            clean_title(title),
            tuple(partly_read),
            Structure(tuple(self._sections), tuple(self._tables), tuple(self._headings)),
        )

    def add_clean(self, kind: Kind, text: str) -> int | None:
        """Add text that is in the form `Extracted` promises; returns where it begins, None if there is none."""
        if not text or text.isspace():
            return None
        if self._parts:
            self._write(_between(self._above, kind))
        start = self._length
        self._write(text)
        self._above = kind
        if self._first is None:
            self._first = start
        return start

    def _write(self, text: str) -> None:
        self._length += len(text)
        if self._length > self._max_characters:
            raise DocumentTooLarge(detail=f"more than {self._max_characters} characters")
        self._parts.append(text)


class Rows:
    """The rows of one table: a line each, tabs between cells, empty cells left out."""

    def __init__(self, builder: TextBuilder) -> None:
        self._builder = builder
        self._seeking_header = _ROWS_BEFORE_A_HEADER
        self.first: int | None = None
        self.header = ""
        self.starts = array("L")
        self.numbers = array("L")

    def add(self, cells: Sequence[str], number: int | None = None) -> None:
        """Add a row. The first one that can be the names of columns counts as the header."""
        shown = [text for cell in cells if (text := " ".join(clean(cell).split()))]
        self._add("\t".join(shown), shown, number)

    def add_line(self, line: str, cells: Sequence[str]) -> None:
        """Add a row that is `line` as it is to be shown."""
        self._add(clean(line).strip("\n").rstrip(), [cell for cell in cells if cell.strip()], None)

    def add_record(self, text: str, number: int) -> None:
        """Add a row of several lines, which stands for itself."""
        self._note(self._builder.add_clean(Kind.PROSE, clean(text).strip("\n").rstrip()), number)

    def _add(self, line: str, shown: Sequence[str], number: int | None) -> None:
        if not self._note(self._builder.add_clean(Kind.LINE, line), number):
            return
        if self._seeking_header and len(shown) > 1:
            self.header = line[:HEADER_CHARACTERS] if _can_name_columns(shown) else ""
            self._seeking_header = 0
        self._seeking_header -= bool(self._seeking_header)

    def _note(self, start: int | None, number: int | None) -> bool:
        """Returns whether there is a row that can be seen."""
        if start is None:
            return False
        if self.first is None:
            self.first = start
        if number is not None:
            self.starts.append(start)
            self.numbers.append(number)
        return True


def header_of(rows: str) -> str:
    """The header of a table whose rows are lines with tabs between their cells, as `Rows` finds it."""
    for line in rows.split("\n", _ROWS_BEFORE_A_HEADER)[:_ROWS_BEFORE_A_HEADER]:
        cells = [cell for cell in line.split("\t") if cell.strip()]
        if len(cells) > 1:
            return line.strip()[:HEADER_CHARACTERS] if _can_name_columns(cells) else ""
    return ""


def _can_name_columns(cells: Sequence[str]) -> bool:
    return all(len(cell) <= _LONGEST_COLUMN_NAME and not _NUMBER.fullmatch(cell) for cell in cells)


def _between(above: Kind | None, kind: Kind) -> str:
    """What separates a block from the one above; None is another section."""
    if above is None or kind is Kind.HEADING:
        return "\n\n\n"
    return "\n" if above is Kind.HEADING or above is kind is Kind.LINE else "\n\n"
