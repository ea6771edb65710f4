"""XML of any kind to plain text: a line for each element that has text, or the attributes of one that has nothing else.

Markup within a sentence is no line of its own. Entities that the document declares are read as what they stand for,
those of HTML too; nothing outside the document is loaded.
"""

import io
import re
from collections.abc import Iterator
from html.entities import html5

from lxml import etree

from services.indexing.pipeline.documents import XML, Extracted
from services.indexing.pipeline.errors import CorruptDocument, DocumentTooLarge, EmptyDocument, ExtractionError
from services.indexing.pipeline.formats.text import extract_plain
from services.indexing.pipeline.formats.text_builder import Kind, TextBuilder

_EVENTS = ("start", "end")
_TITLE_TAGS = frozenset({"title"})
_DECLARATION = "<!ENTITY"
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{1,31};)")
_UNRESOLVED = frozenset(
    {
        etree.ErrorTypes.ERR_UNDECLARED_ENTITY,
        etree.ErrorTypes.WAR_UNDECLARED_ENTITY,
        etree.ErrorTypes.ERR_ENTITY_LOOP,
    }
)


def extract(decoded: str, *, max_characters: int) -> Extracted:
    """Read a document; one without text is shown as it is written.

    Raises:
        ExtractionError: It is damaged, nested too deep, no more than entities within entities, or too large.
    """
    text = TextBuilder(max_characters)
    try:
        title = _read(decoded, text)
        return text.extracted(XML, title)
    except EmptyDocument:
        return extract_plain(decoded)
    except etree.XMLSyntaxError as error:
        raise _reason(error, decoded) from error


def _reason(error: etree.XMLSyntaxError, decoded: str) -> ExtractionError:
    detail = str(error)
    if error.code == etree.ErrorTypes.ERR_NO_MEMORY:
        raise MemoryError("libxml2") from error
    if "amplification" in detail or (error.code in _UNRESOLVED and _DECLARATION in decoded):
        return CorruptDocument("unsafe", detail=detail)
    if "Excessive depth" in detail:
        return CorruptDocument("nested", detail=detail)
    return DocumentTooLarge(detail=detail) if "limit exceeded" in detail else CorruptDocument("xml", detail=detail)


def _read(decoded: str, text: TextBuilder) -> str | None:
    """Add the text of the document; returns its title."""
    open_elements: list[list[str]] = []
    title: str | None = None
    for event, element in _events(decoded):
        if event == "start":
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


def _events(decoded: str) -> Iterator[tuple[str, etree._Element]]:
    options = dict.fromkeys(("no_network", "remove_comments", "remove_pis"), True)
    if _DECLARATION in decoded:
        # Elements within entities have no parents until all is read.
        parser = etree.XMLParser(resolve_entities="internal", encoding="utf-8", **options)
        root = etree.fromstring(decoded.encode(errors="replace"), parser)
        yield from etree.iterwalk(root, events=_EVENTS)
        return
    source = io.BytesIO(_ENTITY.sub(_character, decoded).encode(errors="replace"))
    yield from etree.iterparse(source, events=_EVENTS, encoding="utf-8", resolve_entities=False, **options)


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


def _character(entity: re.Match[str]) -> str:
    """What an entity of HTML stands for; documents use them without declaring them."""
    found = html5.get(entity[1])
    return entity[0] if found is None else "".join(f"&#{ord(character)};" for character in found)


def _local(name: str) -> str:
    return name.rpartition("}")[2]
