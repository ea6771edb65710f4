"""Where a chunk is in its document, and what it is searched with besides its own text.

The context is the document's title, the headings that the chunk is under and the header of the table that it continues,
each once, and none that the chunk shows itself. It is short (`SHARE` of a chunk's capacity), because what is embedded
has to fit the model: what has least to do with the chunk gives way first.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from services.indexing.pipeline.documents import Chunk, Location, PageSpan, Section, Structure, Table

SHARE = 4
"""A quarter of a chunk's capacity at most."""

_NAME_CHARACTERS = 200
_WORD = re.compile(r"[^\W_]+")
_SEPARATOR = " › "
_SHOWN_HEADINGS = 6


class Surroundings:
    """Answers for chunks of one text, in any order."""

    def __init__(
        self, text: str, structure: Structure, pages: Sequence[PageSpan] | None, title: str | None, capacity: int
    ) -> None:
        self._text = text
        self._headings = structure.headings
        self._heading_starts = [heading.start for heading in structure.headings]
        self._above = list(_above([heading.level for heading in structure.headings]))
        self._sections = structure.sections
        self._section_starts = [section.start for section in structure.sections]
        self._tables = structure.tables
        self._table_starts = [table.start for table in structure.tables]
        self._pages = pages or ()
        self._page_starts = [page.start for page in self._pages]
        self._title = title or ""
        self._most = capacity // SHARE

    def reserved(self, start: int, end: int) -> int:
        """How long the context of a chunk within the range may be."""
        first, last = bisect_left(self._heading_starts, start), bisect_left(self._heading_starts, end)
        paths = max((self._length(index) for index in range(max(first - 1, 0), last)), default=0)
        headers = max((len(table.header) for table in self._tables_in(start, end)), default=0)
        section = self._section(start)
        sheet = "" if section is None else section.location.get("sheet", "")
        code = sum(len(name) + len(_SEPARATOR) for name in _named(section))
        parts = [len(self._title), len(sheet), code, paths, headers]
        return min(sum(part + len(_SEPARATOR) for part in parts if part), self._most)

    def page(self, start: int, end: int) -> int | None:
        """The page that the middle of the range is on."""
        if not self._pages:
            return None
        return self._pages[max(bisect_right(self._page_starts, (start + end) // 2) - 1, 0)].number

    def location(self, start: int, end: int) -> Location | None:
        section = self._section(start)
        location = Location() if section is None else section.location.copy()
        if (page := self.page(start, end)) is not None:
            location["page"] = page
        if (numbered := self._rows(start, end)) is not None:
            unit, rows = numbered
            if unit == "lines":
                location["lines"] = rows
            else:
                location["rows"] = rows
        if headings := self._path(self._heading_of(start, end), section):
            location["headings"] = [self._headings[index].text for index in headings[-_SHOWN_HEADINGS:]]
        return location or None

    def context(self, start: int, end: int) -> str:
        section = self._section(start)
        headings = self._path(bisect_left(self._heading_starts, start) - 1, section)
        under = [*_named(section), *(self._headings[index].text for index in headings)]
        sheet = "" if section is None else section.location.get("sheet", "")
        said: dict[str, str] = {}
        for text in (self._title, sheet, *under):
            said.setdefault(text.casefold(), text)
        shown = " ".join(self._text[start:end].split()).casefold()
        kept = [text for folded, text in said.items() if text and folded not in shown]
        header = self._header(start, end)
        left = self._most - len(header)
        while kept and sum(map(len, kept)) + len(_SEPARATOR) * (len(kept) - 1) > left:
            # The outermost first: the innermost says most about the chunk.
            del kept[0]
        return "\n".join(filter(None, [_SEPARATOR.join(kept), header]))

    def _section(self, position: int) -> Section | None:
        index = bisect_right(self._section_starts, position) - 1
        return self._sections[index] if index >= 0 and position < self._sections[index].end else None

    def _heading_of(self, start: int, end: int) -> int:
        """The index of the heading that the range is under, those it begins with among them; -1 for none."""
        index = bisect_left(self._heading_starts, start) - 1
        place = start
        while index + 1 < len(self._headings) and (following := self._heading_starts[index + 1]) < end:
            if self._text[place:following].strip():
                break
            index += 1
            line_end = self._text.find("\n", following, end)
            place = end if line_end < 0 else line_end
        return index

    def _path(self, index: int, section: Section | None) -> list[int]:
        """The heading with those it is under, outermost first. A slide or sheet is under none outside it."""
        apart = section is not None and ("slide" in section.location or "sheet" in section.location)
        path: list[int] = []
        while index >= 0 and not (apart and section is not None and self._heading_starts[index] < section.start):
            path.append(index)
            index = self._above[index]
        return path[::-1]

    def _length(self, index: int) -> int:
        return sum(len(self._headings[at].text) + len(_SEPARATOR) for at in self._path(index, None))

    def _tables_in(self, start: int, end: int) -> Iterator[Table]:
        first = max(bisect_right(self._table_starts, start) - 1, 0)
        return (table for table in self._tables[first : bisect_left(self._table_starts, end)] if table.end > start)

    def _header(self, start: int, end: int) -> str:
        """The header of the table in which the range begins, unless the range shows it."""
        for table in self._tables_in(start, end):
            if table.start < start and table.header not in self._text[start:end]:
                return table.header[: self._most]
        return ""

    def _rows(self, start: int, end: int) -> tuple[str, tuple[int, int]] | None:
        for table in self._tables_in(start, end):
            if table.numbers:
                first = max(bisect_right(table.starts, start) - 1, 0)
                last = max(bisect_left(table.starts, end) - 1, first)
                return table.unit, (table.numbers[first], table.numbers[last])
        return None


def _named(section: Section | None) -> Sequence[str]:
    """What a section of source code is in."""
    return () if section is None else section.location.get("headings", ())


def found_by(document_name: str, chunk: Chunk) -> str:
    """What a chunk is found by in a search by words, besides its text: its context, and the name of the file.

    The name counts for the first chunk only: a search by it shows the document once, and what the others say is not
    outweighed by it. A name of digits, or one that a program made up, would only be found by accident.
    """
    words = _WORD.findall(PurePath(document_name).stem.replace("_", " ")) if chunk.index == 0 else []
    telling = [word for word in words if not any(map(str.isdigit, word))]
    name = " ".join(words) if any(len(word) > 1 for word in telling) else ""
    return "\n".join(filter(None, [name[:_NAME_CHARACTERS], chunk.context]))


def _above(levels: Sequence[int]) -> Iterator[int]:
    """For each heading the index of the one it is under; -1 for none."""
    open_headings: list[tuple[int, int]] = []
    for index, level in enumerate(levels):
        while open_headings and open_headings[-1][0] >= level:
            open_headings.pop()
        yield open_headings[-1][1] if open_headings else -1
        open_headings.append((level, index))
