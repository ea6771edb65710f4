"""Detects a file's type from its bytes; its name and declared type are only hints."""

import codecs
import re
import zipfile
from itertools import takewhile

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
    PLAIN_TEXT,
    PPTX,
    RTF,
    SOURCE_CODE,
    TSV,
    XLSX,
    XML,
)
from services.indexing.pipeline.errors import CorruptDocument, DocumentEncrypted, UnsupportedContentType
from services.indexing.pipeline.formats import unsupported_formats
from services.indexing.pipeline.formats.claimed_types import Hints
from services.indexing.pipeline.formats.ooxml.package import office_type
from services.indexing.pipeline.memory_files import Stream

HEAD_BYTES = 4096

# The kinds of text that only a claim tells apart, the first one first.
_CLAIMED_TEXTS = (NOTEBOOK, JSON_LINES, JSON, TSV, CSV, MARKDOWN, SOURCE_CODE)
_TYPES_BY_MIMETYPE = {content_type.encode(): content_type for content_type in (ODT, ODS, ODP, EPUB)}
# What a damaged archive is called: by its claimed type, or a name that it holds.
_DAMAGED = (
    ("docx", DOCX, b"word/"),
    ("pptx", PPTX, b"ppt/"),
    ("xlsx", XLSX, b"xl/"),
    ("epub", EPUB, b"application/epub"),
    *(("opendocument", content_type, b"application/vnd.oasis") for content_type in (ODT, ODS, ODP)),
)

_RICH_TEXT = b"{\\rtf"
_COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_DIRECTORY_SEARCH_BYTES = 1 << 20

_HTML_START = re.compile(
    # Atomic groups: the many ways to cut a row of comments into comments must not be tried one after the other.
    r"(?>\s+|<\?xml[^>]{0,200}>|<!--.{0,2000}?-->)*+<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_XML_START = re.compile(r"\s*<(?:\?xml\b|!DOCTYPE\b|!--|[A-Za-z_][\w.:-]{0,100}(?:\s[^<>]{0,2000})?/?>)")
# A header, or the rest of a long one.
_HEADER = re.compile(r"([A-Za-z][\w-]{0,60}):(?:[ \t]|$)|[ \t]+\S")
_TELLING_HEADERS = frozenset({"received", "message-id", "mime-version", "return-path", "delivered-to", "content-type"})
_ANY_TAG = re.compile(r"<[a-zA-Z!/][^<>]{0,500}>")


def container_type(content: memoryview, hints: Hints) -> str | None:
    """The type of a file that is no text by itself, or None when the bytes may be text.

    Raises:
        UnsupportedContentType, DocumentEncrypted, CorruptDocument: They are neither.
    """
    head = bytes(content[:HEAD_BYTES])
    if head.lstrip().startswith(b"%PDF-") or (PDF in hints.claimed and b"%PDF-" in head[:1024]):
        return PDF
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _archive_type(content, head, hints)
    if head.startswith(_RICH_TEXT):
        return RTF
    if head.startswith(_COMPOUND_FILE):
        raise _refused_compound_file(content, hints)
    if kind := unsupported_formats.of_bytes(head):
        raise UnsupportedContentType(kind)
    return EML if is_message(head, hints) else None


def text_type(text: str, hints: Hints) -> str:
    start = text[:HEAD_BYTES]
    claimed = next((content_type for content_type in _CLAIMED_TEXTS if content_type in hints.claimed), PLAIN_TEXT)
    if claimed == SOURCE_CODE:
        return SOURCE_CODE
    if _HTML_START.match(start) or (HTML in hints.claimed and _ANY_TAG.search(start)):
        return HTML
    if XML in hints.claimed or start.lstrip()[:6] == "<?xml ":
        return XML if _XML_START.match(start) else PLAIN_TEXT
    return claimed


def is_message(head: bytes, hints: Hints) -> bool:
    """Whether a file is an e-mail message: said to be one, or with headers that only messages have."""
    lines = head.removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n").decode("latin-1").splitlines()
    if lines and lines[0].startswith("From "):
        # As mailboxes set messages apart.
        del lines[0]
    headers = [found[1] for found in takewhile(bool, map(_HEADER.match, lines[:50])) if found]
    named = {name.lower() for name in headers if name}
    if EML in hints.claimed:
        return bool(named)
    return len(named) > 2 and "from" in named and len(named & _TELLING_HEADERS) > 1


def _archive_type(content: memoryview, head: bytes, hints: Hints) -> str:
    try:
        with zipfile.ZipFile(Stream(content)) as archive:
            found = office_type(archive) or _type_by_mimetype(archive)
            if found is None:
                raise UnsupportedContentType(unsupported_formats.of_archive(archive))
            return found
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        kinds = (kind for kind, content_type, mark in _DAMAGED if content_type in hints.claimed or mark in head)
        raise CorruptDocument(next(kinds, "archive"), detail=str(error)) from error


def _type_by_mimetype(archive: zipfile.ZipFile) -> str | None:
    """The type that an OpenDocument file or an e-book names first."""
    named = unsupported_formats.beginning(archive, "mimetype").strip()
    return _TYPES_BY_MIMETYPE.get(named.removesuffix(b"-template"))


def _refused_compound_file(content: memoryview, hints: Hints) -> DocumentEncrypted | UnsupportedContentType:
    kind = unsupported_formats.of_compound_file(content)
    # Word stores a password-protected .docx inside the container of the old .doc format.
    if kind == "encrypted" or (kind is None and _holds_encrypted_package(content)):
        return DocumentEncrypted()
    return UnsupportedContentType(kind or hints.old_office or "doc")


def _holds_encrypted_package(content: memoryview) -> bool:
    """The compound file's directory may be at either end of the file."""
    ends = (content[:_DIRECTORY_SEARCH_BYTES], content[-_DIRECTORY_SEARCH_BYTES:])
    return any(_ENCRYPTED_PACKAGE in bytes(end) for end in ends)
