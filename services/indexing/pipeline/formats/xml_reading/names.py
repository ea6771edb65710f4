"""Names of elements and attributes as "prefix:name", whatever namespace variant and prefix a document uses.

Of Office Open XML, OpenDocument and e-books. ECMA-376 has two variants of most namespaces: transitional, which nearly
all programs write, and strict (ISO/IEC 29500).
"""

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

from lxml import etree

_OFFICE, _STRICT = "http://schemas.openxmlformats.org", "http://purl.oclc.org/ooxml"
_OASIS = "urn:oasis:names:tc:opendocument:xmlns"
_NAMESPACES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "w": (f"{_OFFICE}/wordprocessingml/2006/main", f"{_STRICT}/wordprocessingml/main"),
        "p": (f"{_OFFICE}/presentationml/2006/main", f"{_STRICT}/presentationml/main"),
        "s": (f"{_OFFICE}/spreadsheetml/2006/main", f"{_STRICT}/spreadsheetml/main"),
        "r": (f"{_OFFICE}/officeDocument/2006/relationships", f"{_STRICT}/officeDocument/relationships"),
        "m": (f"{_OFFICE}/officeDocument/2006/math", f"{_STRICT}/officeDocument/math"),
        "a": (f"{_OFFICE}/drawingml/2006/main", f"{_STRICT}/drawingml/main"),
        "wp": (f"{_OFFICE}/drawingml/2006/wordprocessingDrawing", f"{_STRICT}/drawingml/wordprocessingDrawing"),
        "dgm": (f"{_OFFICE}/drawingml/2006/diagram", f"{_STRICT}/drawingml/diagram"),
        "c": (f"{_OFFICE}/drawingml/2006/chart", f"{_STRICT}/drawingml/chart"),
        "cx": ("http://schemas.microsoft.com/office/drawing/2014/chartex",),
        "mc": (f"{_OFFICE}/markup-compatibility/2006",),
        "p188": ("http://schemas.microsoft.com/office/powerpoint/2018/8/main",),
        "tc": ("http://schemas.microsoft.com/office/spreadsheetml/2018/threadedcomments",),
        "v": ("urn:schemas-microsoft-com:vml",),
        "package": (f"{_OFFICE}/package/2006/relationships",),
        "types": (f"{_OFFICE}/package/2006/content-types",),
        "dc": ("http://purl.org/dc/elements/1.1/",),
        "office": (f"{_OASIS}:office:1.0",),
        "text": (f"{_OASIS}:text:1.0",),
        "table": (f"{_OASIS}:table:1.0",),
        "draw": (f"{_OASIS}:drawing:1.0",),
        "svg": (f"{_OASIS}:svg-compatible:1.0",),
        "presentation": (f"{_OASIS}:presentation:1.0",),
        "manifest": (f"{_OASIS}:manifest:1.0",),
        "chart": (f"{_OASIS}:chart:1.0",),
        "math": ("http://www.w3.org/1998/Math/MathML",),
        "xlink": ("http://www.w3.org/1999/xlink",),
        "style": (f"{_OASIS}:style:1.0",),
        "container": (f"{_OASIS}:container",),
        "opf": ("http://www.idpf.org/2007/opf",),
        "enc": ("http://www.w3.org/2001/04/xmlenc#",),
    }
)
_PREFIXES = MappingProxyType({uri: prefix for prefix, uris in _NAMESPACES.items() for uri in uris})

# Text that has been deleted, or moved from here.
REVISIONS = frozenset({"w:del", "w:moveFrom"})


def qualified(names: Iterable[str]) -> dict[str, str]:
    """lxml's names of the elements "prefix:name" in every variant, with the short name of each."""
    return {full: name for name in names for full in _variants(name)}


def short(element: etree._Element) -> str:
    """The element's name as "prefix:name"; as lxml has it when its namespace is none of these."""
    uri, _, local = element.tag[1:].rpartition("}")
    prefix = _PREFIXES.get(uri)
    return f"{prefix}:{local}" if prefix else str(element.tag)


def attribute(element: etree._Element, name: str) -> str | None:
    """The attribute "prefix:name" in any variant of its namespace."""
    for full in _variants(name):
        found: str | None = element.get(full)
        if found is not None:
            return found
    return None


def child(element: etree._Element, *path: str) -> etree._Element | None:
    """The first child with that name, or the first grandchild below it and so on."""
    found: etree._Element | None = element
    for name in path:
        if found is not None:
            found = _first(found, _variants(name))
    return found


def value(element: etree._Element, *path: str) -> str | None:
    """`w:val` of the descendant at `path`."""
    found = child(element, *path)
    return None if found is None else attribute(found, "w:val")


def is_on(element: etree._Element, *path: str) -> bool:
    """Whether the descendant at `path` is there and switched on (ECMA-376 part 1, 17.17.4)."""
    found = child(element, *path)
    return found is not None and attribute(found, f"{path[-1].partition(':')[0]}:val") not in {"0", "false", "off"}


def _first(element: etree._Element, variants: Iterable[str]) -> etree._Element | None:
    for full in variants:
        found = element.find(full)
        if found is not None:
            return found
    return None


@cache
def _variants(name: str) -> tuple[str, ...]:
    """For names of this program, which are few."""
    prefix, _, local = name.partition(":")
    return tuple(f"{{{uri}}}{local}" for uri in _NAMESPACES[prefix])
