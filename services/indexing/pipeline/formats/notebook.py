"""Notebooks (.ipynb, nbformat 3 and 4) to plain text: cells in order, each a section, code with what it printed."""

from collections.abc import Iterator
from typing import Any

from services.indexing.pipeline.documents import NOTEBOOK, Extracted
from services.indexing.pipeline.errors import EmptyDocument
from services.indexing.pipeline.formats.json_parsing import Members
from services.indexing.pipeline.formats.text import extract_markdown
from services.indexing.pipeline.formats.text_builder import Kind, TextBuilder


def is_notebook(value: Any) -> bool:
    """Whether parsed JSON (`json_parsing.parsed`) is a notebook."""
    return isinstance(value, Members) and {"nbformat", "metadata"} <= {name for name, _ in value}


def extract(notebook: Members, *, max_characters: int) -> Extracted:
    text = TextBuilder(max_characters)
    title = None
    for number, cell in enumerate(_cells(dict(notebook)), start=1):
        source = _joined(cell.get("source", cell.get("input")))
        with text.section({"cell": number}):
            if cell.get("cell_type") == "markdown":
                found = _add_markdown(text, source)
                title = title or found
            else:
                level = cell.get("level") if cell.get("cell_type") == "heading" else None
                text.add(Kind.PROSE if level is None else Kind.HEADING, source, level=_level(level))
            for output in _outputs(cell):
                text.add(Kind.PROSE, output)
    return text.extracted(NOTEBOOK, title)


def _add_markdown(text: TextBuilder, source: str) -> str | None:
    """Returns its title."""
    try:
        extracted = extract_markdown(source)
    except EmptyDocument:
        return None
    text.embed(extracted)
    return extracted.title


def _cells(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those of nbformat 4, or of all worksheets of nbformat 3."""
    yield from _objects(notebook.get("cells"))
    for worksheet in _objects(notebook.get("worksheets")):
        yield from _objects(worksheet.get("cells"))


def _outputs(cell: dict[str, Any]) -> Iterator[str]:
    for output in _objects(cell.get("outputs")):
        data = output.get("data")
        shown = dict(data) if isinstance(data, Members) else output
        yield _joined(shown.get("text/plain", shown.get("text")))
        if output.get("output_type") in {"error", "pyerr"}:
            yield f"{_joined(output.get('ename'))}: {_joined(output.get('evalue'))}"


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        yield from (dict(element) for element in value if isinstance(element, Members))


def _joined(value: Any) -> str:
    """A text, which may be stored as a list of its lines."""
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""


def _level(value: Any) -> int:
    return int(value) if isinstance(value, str) and value in set("123456") else 1
