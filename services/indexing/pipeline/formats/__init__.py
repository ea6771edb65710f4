"""The supported formats, and which module reads each.

`extract_document` parses unchecked bytes, with native parsers, in the calling process. Product code calls it through
`services.indexing.pipeline.extraction`, which gives every document a confined process of its own.
"""

import codecs
import pkgutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from encodings import __path__ as encodings_path
from types import MappingProxyType

from services.indexing.pipeline.documents import (
    CSV,
    DOCX,
    EML,
    EPUB,
    HTML,
    JSON,
    JSON_LINES,
    MARKDOWN,
    NOTEBOOK,
    ODP,
    ODS,
    ODT,
    PDF,
    PPTX,
    RTF,
    SOURCE_CODE,
    TSV,
    XLSX,
    XML,
    Extracted,
)
from services.indexing.pipeline.errors import DocumentTooLarge, EmptyDocument
from services.indexing.pipeline.formats import (
    claimed_types,
    delimited,
    docx,
    eml,
    epub,
    html,
    json_values,
    opendocument,
    pdf,
    pptx,
    rtf,
    source_code,
    text,
    type_detection,
    xlsx,
    xml_text,
)

_LARGE_BYTES = 256 * 1024

_Container = Callable[[memoryview, int], Extracted]
_CONTAINERS: Mapping[str, _Container] = MappingProxyType(
    {
        PDF: lambda content, most: pdf.extract(content, max_characters=most),
        DOCX: lambda content, most: docx.extract(content, max_characters=most),
        PPTX: lambda content, most: pptx.extract(content, max_characters=most),
        XLSX: lambda content, most: xlsx.extract(content, max_characters=most),
        ODT: lambda content, most: opendocument.extract(content, ODT, max_characters=most),
        ODS: lambda content, most: opendocument.extract(content, ODS, max_characters=most),
        ODP: lambda content, most: opendocument.extract(content, ODP, max_characters=most),
        EPUB: lambda content, most: epub.extract(content, max_characters=most),
        RTF: lambda content, most: rtf.extract(content, max_characters=most),
        EML: lambda content, most: eml.extract(content, max_characters=most),
    }
)
_TEXTS: Mapping[str, Callable[[str, int], Extracted]] = MappingProxyType(
    {
        HTML: lambda decoded, _: html.extract(decoded),
        MARKDOWN: lambda decoded, _: text.extract_markdown(decoded),
        CSV: lambda decoded, most: delimited.extract(decoded, CSV, max_characters=most),
        TSV: lambda decoded, most: delimited.extract(decoded, TSV, max_characters=most),
        JSON: lambda decoded, most: json_values.extract(decoded, JSON, max_characters=most),
        JSON_LINES: lambda decoded, most: json_values.extract(decoded, JSON_LINES, max_characters=most),
        NOTEBOOK: lambda decoded, most: json_values.extract(decoded, NOTEBOOK, max_characters=most),
        XML: lambda decoded, most: xml_text.extract(decoded, max_characters=most),
    }
)


def extract_document(content: memoryview, *, name: str, declared_type: str, max_characters: int) -> Extracted:
    """Read one document of any supported format.

    `name` and `declared_type` decide only between kinds the bytes cannot tell apart, such as text and Markdown.

    Raises:
        ExtractionError: The document cannot be read, is not supported, holds no text or more than `max_characters`.
    """
    extracted = _extract(content, claimed_types.Hints.of(name, declared_type), max_characters)
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
    eml.warm_up()
    source_code.warm_up()


def _extract(content: memoryview, hints: claimed_types.Hints, max_characters: int) -> Extracted:
    if not content:
        raise EmptyDocument("file")
    container = type_detection.container_type(content, hints)
    if container is not None:
        return _CONTAINERS[container](content, max_characters)
    too_large = len(content) > 4 * max_characters
    if too_large or len(content) > _LARGE_BYTES:
        text.require_text(content)
    if too_large:
        raise DocumentTooLarge(detail=f"{len(content)} bytes of text")
    decoded = text.decode(bytes(content), hints.charset)
    content_type = type_detection.text_type(decoded, hints)
    if content_type == SOURCE_CODE:
        return source_code.extract(decoded, hints.suffix)
    read = _TEXTS.get(content_type)
    return text.extract_plain(decoded) if read is None else read(decoded, max_characters)
