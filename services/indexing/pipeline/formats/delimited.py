"""Tables as text (.csv, .tsv; RFC 4180 and its many variants): a line for each row, tabs between its cells."""

import csv
import io
from collections import Counter
from collections.abc import Iterator

from services.indexing.pipeline.documents import CSV, TSV, Extracted
from services.indexing.pipeline.errors import DocumentTooLarge
from services.indexing.pipeline.formats.text import extract_plain
from services.indexing.pipeline.formats.text_builder import TextBuilder

UNCLOSED_QUOTE = "unclosed_quote"

_DELIMITERS = {CSV: (",", ";", "\t", "|"), TSV: ("\t",)}
_SAMPLE_ROWS = 100
_SAMPLE_CHARACTERS = 64 * 1024
_LEAST_SHARE = 0.6


def extract(decoded: str, content_type: str, *, max_characters: int) -> Extracted:
    """Read a table; text that is none, whatever its name, as plain text.

    Raises:
        ExtractionError: It has no text, or too much of it.
    """
    csv.field_size_limit(max(max_characters, 1))
    text = TextBuilder(max_characters)
    lines, open_quote = _Lines(decoded), False
    try:
        delimiter = _delimiter(decoded, content_type)
        if delimiter is None:
            return extract_plain(decoded)
        with text.table() as rows:
            for number, row in enumerate(csv.reader(lines, delimiter=delimiter), start=1):
                rows.add(row, number)
                # What is left of the file is in one cell: it was cut, or one quote is too many.
                open_quote = lines.ended
    except csv.Error as error:
        raise DocumentTooLarge(detail=str(error)) from error
    return text.extracted(content_type, partly_read=[UNCLOSED_QUOTE] if open_quote else [])


class _Lines(Iterator[str]):
    """The lines of a text. `ended`: one more was asked for, which only happens within quotes before the last row."""

    def __init__(self, decoded: str) -> None:
        self._lines = io.StringIO(decoded, newline="")
        self.ended = False

    def __next__(self) -> str:
        line = self._lines.readline()
        self.ended = not line
        if self.ended:
            raise StopIteration
        return line


def _delimiter(decoded: str, content_type: str) -> str | None:
    """The one by which most rows have the same number of cells, the more cells the better."""
    sample = decoded[:_SAMPLE_CHARACTERS].splitlines(keepends=True)[:_SAMPLE_ROWS]
    best, best_score = None, 0.0
    for delimiter in _DELIMITERS[content_type]:
        widths = Counter(len(row) for row in csv.reader(sample, delimiter=delimiter) if row)
        width = max(widths, key=lambda width: widths[width], default=0)
        share = widths[width] / max(widths.total(), 1)
        if width > 1 and share >= _LEAST_SHARE and share * width > best_score:
            best, best_score = delimiter, share * width
    return best
