"""Detects a file's type from its bytes; its name and declared type are only hints."""

import re
import zipfile
from dataclasses import dataclass
from pathlib import PurePath
from typing import Self

from services.indexing.pipeline.documents import DOCX, HTML, MARKDOWN, PDF, PLAIN_TEXT
from services.indexing.pipeline.errors import CorruptDocument, DocumentEncrypted, UnsupportedContentType
from services.indexing.pipeline.formats import unsupported_formats
from services.indexing.pipeline.formats.ooxml.package import holds_word
from services.indexing.pipeline.memory_files import Stream

HEAD_BYTES = 4096

_TYPES_BY_SUFFIX = {
    ".pdf": PDF,
    ".docx": DOCX,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
}
_TYPE_ALIASES = {"text/x-markdown": MARKDOWN, "application/xhtml+xml": HTML, "application/x-pdf": PDF}

_CHARSET = re.compile(r"(?:^|;)\s{0,9}charset\s{0,9}=\s{0,9}[\"']?([A-Za-z0-9_:.+-]{1,40})", re.IGNORECASE)

_OLD_OFFICE = {".xls": "xls", ".ppt": "ppt", ".pps": "ppt", ".msg": "message"}
_COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_DIRECTORY_SEARCH_BYTES = 1 << 20

_HTML_START = re.compile(
    # Atomic groups: the many ways to cut a row of comments into comments must not be tried one after the other.
    r"(?>\s+|<\?xml[^>]{0,200}>|<!--.{0,2000}?-->)*+<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_ANY_TAG = re.compile(r"<[a-zA-Z!/][^<>]{0,500}>")


@dataclass(frozen=True, slots=True)
class Hints:
    """What a file's name and its uploader claim: content types, an encoding, the kind of an old Office file."""

    claimed: frozenset[str]
    charset: str = ""
    old_office: str = ""

    @classmethod
    def of(cls, name: str, declared_type: str) -> Self:
        declared, _, parameters = declared_type.partition(";")
        declared = declared.strip().lower()
        charset = _CHARSET.search(parameters)
        suffix = PurePath(name).suffix.lower()
        by_name = _TYPES_BY_SUFFIX.get(suffix, "")
        return cls(
            frozenset({_TYPE_ALIASES.get(declared, declared), by_name}),
            charset[1] if charset else "",
            _OLD_OFFICE.get(suffix, ""),
        )


def container_type(content: memoryview, hints: Hints) -> str | None:
    """PDF or DOCX, or None when the bytes are no container and may be text.

    Raises:
        UnsupportedContentType, DocumentEncrypted, CorruptDocument: They are neither.
    """
    head = bytes(content[:HEAD_BYTES])
    if head.lstrip().startswith(b"%PDF-") or (PDF in hints.claimed and b"%PDF-" in head[:1024]):
        return PDF
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        _require_word_archive(content, head, hints)
        return DOCX
    if head.startswith(_COMPOUND_FILE):
        raise _refused_compound_file(content, hints)
    if kind := unsupported_formats.of_bytes(head):
        raise UnsupportedContentType(kind)
    return None


def text_type(text: str, hints: Hints) -> str:
    start = text[:HEAD_BYTES]
    if _HTML_START.match(start) or (HTML in hints.claimed and _ANY_TAG.search(start)):
        return HTML
    return MARKDOWN if MARKDOWN in hints.claimed else PLAIN_TEXT


def _require_word_archive(content: memoryview, head: bytes, hints: Hints) -> None:
    try:
        with zipfile.ZipFile(Stream(content)) as archive:
            is_word_package = holds_word(archive)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        is_word = DOCX in hints.claimed or b"word/" in head
        raise CorruptDocument("docx" if is_word else "archive", detail=str(error)) from error
    if not is_word_package:
        raise UnsupportedContentType(_archive_kind(content))


def _archive_kind(content: memoryview) -> str:
    with zipfile.ZipFile(Stream(content)) as archive:
        return unsupported_formats.of_archive(archive)


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
