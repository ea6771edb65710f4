"""Rows as a table on a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def print_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Nothing for no rows."""
    lines = [[str("" if row[column] is None else row[column]) for column in columns] for row in rows]
    if not lines:
        return
    table = [[column.upper().replace("_", " ") for column in columns], *lines]
    widths = [max(len(line[index]) for line in table) for index in range(len(columns))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
