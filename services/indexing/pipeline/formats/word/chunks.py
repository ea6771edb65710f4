"""Documents that a Word document embeds to be shown as its own (alternative format chunks): HTML, text, web archives.

Word converts them when it opens the document. Rich text, which Quarry does not read at all, is left out here, too.
"""

from contextlib import suppress

from services.indexing.pipeline.documents import HTML
from services.indexing.pipeline.errors import CorruptDocument, DocumentEncrypted, EmptyDocument, UnsupportedContentType
from services.indexing.pipeline.formats import html, sniffing, text
from services.indexing.pipeline.formats.word import mime

# What makes a chunk one that is left out.
UNREADABLE = (CorruptDocument, DocumentEncrypted, EmptyDocument, UnsupportedContentType)


def is_package(data: bytes) -> bool:
    return data.startswith(b"PK\x03\x04")


def read(data: bytes, *, name: str, content_type: str) -> str:
    """The text of a chunk that is no package; empty if it cannot be read."""
    charset = None
    if mime.is_archive(data):
        found = mime.page(data)
        if found is None:
            return ""
        data, charset = found
    hints = sniffing.Hints.of(name, content_type)
    with suppress(*UNREADABLE):
        if sniffing.container_type(memoryview(data), hints) is None:
            decoded = _decode(data, charset)
            is_html = sniffing.text_type(decoded, hints) == HTML
            return (html.extract(decoded) if is_html else text.extract_plain(decoded)).text
    return ""


def _decode(data: bytes, charset: str | None) -> str:
    if charset is not None:
        with suppress(LookupError, UnicodeDecodeError):
            return data.decode(charset)
    return text.decode(data)
