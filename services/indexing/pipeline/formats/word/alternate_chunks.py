"""Documents that a Word document embeds to be shown as its own (alternative format chunks).

They are HTML, text, rich text or web archives, which Word converts when it opens the document.
"""

from contextlib import suppress

from services.indexing.pipeline.documents import HTML, RTF
from services.indexing.pipeline.errors import CorruptDocument, DocumentEncrypted, EmptyDocument, UnsupportedContentType
from services.indexing.pipeline.formats import claimed_types, html, rtf, text, type_detection
from services.indexing.pipeline.formats.word import mhtml

# What makes a chunk one that is left out.
UNREADABLE = (CorruptDocument, DocumentEncrypted, EmptyDocument, UnsupportedContentType)


def is_package(data: bytes) -> bool:
    return data.startswith(b"PK\x03\x04")


def read(data: bytes, *, name: str, content_type: str) -> str:
    """The text of a chunk that is no package; empty if it cannot be read."""
    found: mhtml.Page | None = mhtml.Page(data, content_type, charset=None)
    if mhtml.is_archive(data):
        found = mhtml.page(data)
    if found is None:
        return ""
    hints = claimed_types.Hints.of(name, found.content_type)
    with suppress(*UNREADABLE):
        container = type_detection.container_type(memoryview(found.content), hints)
        if container == RTF:
            return rtf.extract(memoryview(found.content), max_characters=len(found.content)).text
        if container is None:
            decoded = _decode(found)
            if type_detection.text_type(decoded, hints) == HTML:
                return html.extract(decoded).text
            # A document that is one file of XML: its source is no text.
            return "" if content_type.endswith("xml") else text.extract_plain(decoded).text
    return ""


def _decode(page: mhtml.Page) -> str:
    if page.charset is not None:
        with suppress(LookupError, UnicodeDecodeError):
            return page.content.decode(page.charset)
    return text.decode(page.content)
