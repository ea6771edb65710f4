"""The supported formats, and which module reads each.

`extract_document` parses unchecked bytes, with native parsers, in the calling process. Product code calls it through
`services.indexing.pipeline.extraction`, which gives every document a confined process of its own.
"""

import codecs
import pkgutil
from contextlib import suppress
from encodings import __path__ as encodings_path

from services.indexing.pipeline.documents import DOCX, HTML, MARKDOWN, PDF, Extracted
from services.indexing.pipeline.errors import DocumentTooLarge, EmptyDocument
from services.indexing.pipeline.formats import docx, html, pdf, text, type_detection

_LARGE_BYTES = 256 * 1024


def extract_document(content: memoryview, *, name: str, declared_type: str, max_characters: int) -> Extracted:
    """Read one document of any supported format.

    `name` and `declared_type` decide only between kinds the bytes cannot tell apart, such as text and Markdown.

    Raises:
        ExtractionError: The document cannot be read, is not supported, holds no text or more than `max_characters`.
    """
    extracted = _extract(content, type_detection.Hints.of(name, declared_type), max_characters)
    if len(extracted.text) > max_characters:
        raise DocumentTooLarge(detail=f"{len(extracted.text)} characters")
    return extracted


def warm_up() -> None:
    """Make the parsers load what they load lazily (codecs, detection tables, fonts), with samples of our own.

    The processes that read documents cannot load anything any more, and a document may name any encoding.
    """
    for module in pkgutil.iter_modules(encodings_path):
        with suppress(LookupError):  # of another operating system
            codecs.lookup(module.name)
    for encoding in ("cp1252", "utf-16-le", "cp1251", "cp932"):
        text.extract_plain(text.decode("Élan naïf, Straße, Гранит, 花崗岩の壁".encode(encoding, errors="ignore")))
    html.extract("<title>Warm</title><h1>Warm</h1><p>text")
    pdf.warm_up()
    docx.warm_up()


def _extract(content: memoryview, hints: type_detection.Hints, max_characters: int) -> Extracted:
    if not content:
        raise EmptyDocument("file")
    container = type_detection.container_type(content, hints)
    if container == PDF:
        return pdf.extract(content, max_characters=max_characters)
    if container == DOCX:
        return docx.extract(content, max_characters=max_characters)
    too_large = len(content) > 4 * max_characters
    if too_large or len(content) > _LARGE_BYTES:
        text.require_text(content)
    if too_large:
        raise DocumentTooLarge(detail=f"{len(content)} bytes of text")
    decoded = text.decode(bytes(content), hints.charset)
    content_type = type_detection.text_type(decoded, hints)
    if content_type == HTML:
        return html.extract(decoded)
    return text.extract_markdown(decoded) if content_type == MARKDOWN else text.extract_plain(decoded)
