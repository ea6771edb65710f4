"""XML of any kind to plain text: a line for each element that has text, or the attributes of one that has nothing else.

Markup within a sentence is no line of its own. What is damaged, or declares entities (which is how bombs are made), is
shown as it is: as the text of the file.
"""

import io

from lxml import etree

from services.indexing.pipeline.documents import XML, Extracted
from services.indexing.pipeline.errors import EmptyDocument
from services.indexing.pipeline.formats.text import extract_plain
from services.indexing.pipeline.formats.text_builder import Kind, TextBuilder

_TITLE_TAGS = frozenset({"title"})


def extract(decoded: str, *, max_characters: int) -> Extracted:
    text = TextBuilder(max_characters)
    try:
        title = _read(decoded, text)
        return text.extracted(XML, title)
    except (etree.XMLSyntaxError, EmptyDocument, _DeclaresEntities):
        return extract_plain(decoded)


class _DeclaresEntities(Exception):
    """Their text would be missing."""


def _read(decoded: str, text: TextBuilder) -> str | None:
    """Add the text of the document; returns its title."""
    open_elements: list[list[str]] = []
    title: str | None = None
    source = io.BytesIO(decoded.encode(errors="replace"))
    options = {"resolve_entities": False, "no_network": True, "remove_comments": True, "remove_pis": True}
    for event, element in etree.iterparse(source, events=("start", "end"), encoding="utf-8", **options):
        if event == "start":
            if not open_elements:
                _require_no_entities(element)
            open_elements.append([])
            continue
        shown = _shown(element, open_elements.pop())
        if title is None and _local(element.tag).lower() in _TITLE_TAGS and shown:
            title = shown
        element.clear(keep_tail=True)
        if len(open_elements) > 1 or (open_elements and (element.getparent().text or "").strip()):
            open_elements[-1].append(shown)
        else:
            text.add(Kind.PROSE, shown)
    return title


def _shown(element: etree._Element, found: list[str]) -> str:
    parts = [element.text or ""]
    mixed = bool(parts[0].strip())
    children = iter(found)
    for child in element:
        # An entity that is declared elsewhere stays as it is written.
        parts += [next(children, "") if isinstance(child.tag, str) else child.text, child.tail or ""]
        mixed = mixed or bool(parts[-1].strip())
    if mixed:
        return " ".join("".join(parts).split())
    lines = [part for part in parts if part.strip()]
    if not lines and not len(element):
        return ", ".join(f"{_local(name)}: {value}" for name, value in element.attrib.items() if value)
    return "\n".join(lines)


def _require_no_entities(root: etree._Element) -> None:
    declared = root.getroottree().docinfo.internalDTD
    if declared is not None and next(declared.iterentities(), None) is not None:
        raise _DeclaresEntities


def _local(name: str) -> str:
    return name.rpartition("}")[2]
