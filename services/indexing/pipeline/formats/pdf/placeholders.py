"""Documents whose pages only say that a certain viewer has to be used: XFA forms and portfolios."""

import ctypes
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pypdfium2
from lxml import etree
from pypdfium2 import raw

from services.indexing.pipeline.documents import PageSpan
from services.indexing.pipeline.errors import UnsupportedContentType
from services.indexing.pipeline.formats.pdf.pages import Pages
from services.indexing.pipeline.formats.text import clean

_LONGEST: Final = 3000
_MOST_PACKETS: Final = 20
_LARGEST_PACKET: Final = 20_000_000
_XFA: Final = re.compile(r"If this message is not eventually replaced|you are trying to load requires Adobe Reader")
_PORTFOLIO: Final = re.compile(r"open this PDF [Pp]ortfolio in|this PDF [Pp]ortfolio requires|PDF [Pp]ackage")
_TEXTS: Final = frozenset({"text", "exData"})
_SHOWN_IN: Final = frozenset({"caption", "draw"})


def replaced(document: pypdfium2.PdfDocument, read: Pages) -> Pages:
    """What was read, or what an XFA form shows instead of its pages.

    Raises:
        UnsupportedContentType: The pages are a placeholder for something that cannot be read.
    """
    if raw.FPDF_GetXFAPacketCount(document) > 0 and _is_placeholder(document, read.text):
        text = "\n".join(_shown_by_xfa(document))
        if not text:
            raise UnsupportedContentType("xfa")
        return replace(read, text=text, spans=(PageSpan(1, 0, len(text)),))
    if len(read.text) < _LONGEST and document.count_attachments() > 0 and _PORTFOLIO.search(read.text):
        raise UnsupportedContentType("portfolio")
    return read


def _is_placeholder(document: pypdfium2.PdfDocument, text: str) -> bool:
    return document.get_formtype() == raw.FORMTYPE_XFA_FULL or (len(text) < _LONGEST and _XFA.search(text) is not None)


def _shown_by_xfa(document: pypdfium2.PdfDocument) -> Iterator[str]:
    """Labels and texts of the form (template), then what was filled in (datasets)."""
    for name, packet in _packets(document):
        if name not in {"template", "datasets"}:
            continue
        try:
            tree = etree.fromstring(packet, etree.XMLParser(resolve_entities=False, no_network=True, recover=True))
        except etree.XMLSyntaxError:
            continue
        if tree is not None:
            yield from _labels(tree) if name == "template" else _values(tree)


def _labels(template: etree._Element) -> Iterator[str]:
    for element in template.iter(etree.Element):
        if _name(element) in _TEXTS and any(_name(above) in _SHOWN_IN for above in element.iterancestors()):
            yield from _text(element.itertext())


def _values(datasets: etree._Element) -> Iterator[str]:
    for element in datasets.iter(etree.Element):
        if not len(element):
            yield from _text([element.text or ""])


def _text(pieces: Iterator[str] | list[str]) -> Iterator[str]:
    text = " ".join(clean("".join(pieces)).split())
    if text:
        yield text


def _name(element: etree._Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _packets(document: pypdfium2.PdfDocument) -> Iterator[tuple[str, bytes]]:
    for index in range(min(raw.FPDF_GetXFAPacketCount(document), _MOST_PACKETS)):
        name = ctypes.create_string_buffer(64)
        raw.FPDF_GetXFAPacketName(document, index, name, len(name))
        size = ctypes.c_ulong()
        raw.FPDF_GetXFAPacketContent(document, index, None, 0, size)
        if 0 < size.value <= _LARGEST_PACKET:
            content = ctypes.create_string_buffer(size.value)
            raw.FPDF_GetXFAPacketContent(document, index, content, size.value, size)
            yield name.value.decode("ascii", "ignore"), content.raw
