"""JSON, and JSON Lines, to plain text: a line for each value, behind its name, indented as YAML is.

Digits stay as they were written. The elements of an outermost list and the lines of a file of lines are records, with
their numbers. What is no JSON, or is nested too deep, is read as plain text.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from services.indexing.pipeline.documents import JSON, JSON_LINES, Extracted
from services.indexing.pipeline.formats import notebook
from services.indexing.pipeline.formats.json_parsing import NO_JSON, Members, parsed
from services.indexing.pipeline.formats.text import extract_plain
from services.indexing.pipeline.formats.text_builder import Kind, TextBuilder

_DEEPEST_INDENT = 8


def extract(decoded: str, content_type: str, *, max_characters: int) -> Extracted:
    text = TextBuilder(max_characters)
    if content_type == JSON:
        try:
            value = parsed(decoded)
        except NO_JSON:
            # Some programs write lines of JSON into files that are not called so.
            return _extract_lines(decoded, text) if _begins_with_a_value(decoded) else extract_plain(decoded)
        if notebook.is_notebook(value):
            return notebook.extract(value, max_characters=max_characters)
        if isinstance(value, list) and any(isinstance(element, (list, Members)) for element in value):
            _add_records(text, value)
        else:
            for line in lines(value):
                text.add(Kind.LINE, line)
        return text.extracted(JSON)
    return _extract_lines(decoded, text) if _begins_with_a_value(decoded) else extract_plain(decoded)


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


def _extract_lines(decoded: str, text: TextBuilder) -> Extracted:
    with text.table() as rows:
        for number, line in enumerate(decoded.splitlines(), start=1):
            record = line
            with suppress(*NO_JSON):
                record = "\n".join(lines(parsed(line)))
            rows.add_record(record, number)
    return text.extracted(JSON_LINES)


def _begins_with_a_value(decoded: str) -> bool:
    first = decoded.lstrip()[:1_000_000].partition("\n")[0]
    try:
        return isinstance(parsed(first), (list, Members))
    except NO_JSON:
        return False


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case _:
            return str(value)
