"""JSON, and JSON Lines, to plain text: a line for each value, behind its name, indented as YAML is.

Digits stay as they were written. The elements of an outermost list and the lines of a file of lines are records, with
their numbers. A record that is damaged is shown as it is written, a file with comments in it too. What does not even
begin like JSON is plain text; what does and cannot be parsed is damaged: half of it would look like all of it.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from services.indexing.pipeline.documents import JSON, JSON_LINES, NOTEBOOK, Extracted
from services.indexing.pipeline.errors import CorruptDocument
from services.indexing.pipeline.formats import notebook
from services.indexing.pipeline.formats.json_parsing import NO_JSON, Members, is_json_with_comments, parsed
from services.indexing.pipeline.formats.text import extract_plain
from services.indexing.pipeline.formats.text_builder import Kind, TextBuilder

DAMAGED_RECORD = "damaged_record"

_DEEPEST_INDENT = 8


def extract(decoded: str, content_type: str, *, max_characters: int) -> Extracted:
    """Read JSON that is called JSON, JSON Lines or a notebook.

    Raises:
        ExtractionError: It is damaged, nested too deep, holds no text, or too much of it.
    """
    if content_type == JSON_LINES and (read := _extract_lines(decoded, max_characters)) is not None:
        return read
    try:
        value = parsed(decoded)
    except RecursionError as error:
        raise CorruptDocument("nested") from error
    except ValueError as error:
        # Some programs write lines of JSON into files that are not called so.
        if content_type == JSON and (read := _extract_lines(decoded, max_characters)) is not None:
            return read
        if decoded.lstrip()[:1] in {"{", "["} and not is_json_with_comments(decoded):
            raise CorruptDocument("notebook" if content_type == NOTEBOOK else "json", detail=str(error)) from error
        return extract_plain(decoded)
    if notebook.is_notebook(value):
        return notebook.extract(value, max_characters=max_characters)
    text = TextBuilder(max_characters)
    if isinstance(value, list) and any(isinstance(element, (list, Members)) for element in value):
        _add_records(text, value)
    else:
        for line in lines(value):
            text.add(Kind.LINE, line)
    return text.extracted(JSON)


def lines(value: Any) -> Iterator[str]:
    """The lines that show a value."""
    waiting: list[tuple[int, str, Any]] = [(0, "", value)]
    while waiting:
        depth, label, inner = waiting.pop()
        indent = "  " * min(depth, _DEEPEST_INDENT)
        below = depth + 1 if label else depth
        if isinstance(inner, Members):
            if label:
                yield f"{indent}{label}"
            waiting += [(below, f"{name}:", member) for name, member in reversed(inner)]
        elif isinstance(inner, list) and any(isinstance(element, (list, Members)) for element in inner):
            if label:
                yield f"{indent}{label}"
            waiting += [(below, "-", element) for element in reversed(inner)]
        else:
            shown = ", ".join(map(_scalar, inner)) if isinstance(inner, list) else _scalar(inner)
            yield f"{indent}{label} {shown}" if label else f"{indent}{shown}"


def _add_records(text: TextBuilder, records: Sequence[Any]) -> None:
    with text.table() as rows:
        for number, record in enumerate(records, start=1):
            rows.add_record("\n".join(lines(record)), number)


def _extract_lines(decoded: str, max_characters: int) -> Extracted | None:
    """Records of a line each; None when more than half of the lines are damaged, or none is a record."""
    text, whole, damaged = TextBuilder(max_characters), 0, 0
    with text.table() as rows:
        for number, line in enumerate(decoded.split("\n"), start=1):
            record = line
            with suppress(*NO_JSON):
                value = parsed(line)
                record = "\n".join(lines(value))
                whole += isinstance(value, (list, Members))
            damaged += bool(record is line and line.strip())
            rows.add_record(record, number)
    if damaged > whole or not whole:
        return None
    return text.extracted(JSON_LINES, partly_read=[DAMAGED_RECORD] if damaged else [])


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case _:
            return str(value)
