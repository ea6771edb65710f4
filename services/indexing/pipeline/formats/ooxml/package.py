"""The package of an Office document (ECMA-376 part 2): which parts there are, and how they refer to each other.

The package's relationships say which part is the main one, and that part's relationships where all others are. Targets
outside the package are ignored. Part names are compared as the standard says, ignoring case.
"""

import posixpath
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO
from urllib.parse import unquote

from lxml import etree

from services.indexing.pipeline.documents import DOCX, PPTX, XLSX
from services.indexing.pipeline.errors import DocumentEncrypted
from services.indexing.pipeline.formats.limits import Limits
from services.indexing.pipeline.formats.xml_reading.events import DAMAGE, ended

_ENCRYPTED_FLAG = 0x1
# Where nearly every program puts them; said by nothing else in a package without relationships.
_USUAL_MAIN_PARTS = {"/word/document.xml": DOCX, "/ppt/presentation.xml": PPTX, "/xl/workbook.xml": XLSX}
# In the content type of the main part, of a document, template or one with macros.
_IN_CONTENT_TYPES = (
    ("wordprocessingml", DOCX),
    ("ms-word", DOCX),
    ("presentationml", PPTX),
    ("ms-powerpoint", PPTX),
    ("spreadsheetml", XLSX),
    ("ms-excel.sheet.macro", XLSX),
    ("ms-excel.template.macro", XLSX),
)
_DIRECTORY_BYTES = 16 * 1024 * 1024
_UNTOLD_TYPES = frozenset({"", "application/xml", "text/xml"})


@dataclass(frozen=True, slots=True)
class Relationship:
    """`kind` is the end of the relationship's type, the same in all namespace variants; `target` a part's name."""

    kind: str
    target: str


class Package:
    """The parts of an archive. Damaged relationships and content types count as missing.

    Raises:
        CorruptDocument: From every method: a list of parts contains a document type declaration.
        DocumentEncrypted: From every method: an entry is encrypted.
        DocumentTooLarge: From every method: more than `limits` allow.
    """

    def __init__(self, archive: zipfile.ZipFile, limits: Limits) -> None:
        self._archive = archive
        self._limits = limits
        self._entries = {part_name(entry.filename): entry for entry in archive.infolist()}
        self._related: dict[str, dict[str, Relationship]] = {}
        self._types: dict[str, str] | None = None

    @property
    def main_part(self) -> str:
        """The main part's name, whether or not there is such a part."""
        told = next((name for name in self.related("/", "officeDocument")), "")
        usual = next((name for name in _USUAL_MAIN_PARTS if name in self._entries), "")
        return told if told in self._entries else usual or told

    def has(self, name: str) -> bool:
        return name in self._entries

    def opened(self, name: str) -> IO[bytes] | None:
        """The part, to be read once from beginning to end; None when there is none."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        if entry.flag_bits & _ENCRYPTED_FLAG:
            raise DocumentEncrypted()
        # zipfile never yields more than an entry's declared size: checking that is enough.
        self._limits.take_part(name, entry.file_size)
        return self._archive.open(entry)

    def related(self, source: str, kind: str) -> Iterator[str]:
        """Names of the parts to which `source` ("/" is the package) has a relationship of that kind."""
        return (found.target for found in self.relationships(source).values() if found.kind == kind)

    def relationships(self, source: str) -> Mapping[str, Relationship]:
        """Relationships of `source` to parts of the package, by id."""
        if source not in self._related:
            self._related[source] = dict(self._read_relationships(source))
        return self._related[source]

    def content_type(self, name: str) -> str:
        """In lower case; empty when the package does not tell."""
        if self._types is None:
            self._types = dict(self._read_types())
        return self._types.get(name) or self._types.get(posixpath.splitext(name)[1]) or ""

    def _read_relationships(self, source: str) -> Iterator[tuple[str, Relationship]]:
        folder, _, file = source.rpartition("/")
        for _, element in self._entries_of(f"{folder}/_rels/{file}.rels", "package:Relationship"):
            if element.get("TargetMode", "Internal") == "Internal":
                target = posixpath.join(folder or "/", element.get("Target", "").partition("#")[0])
                kind = element.get("Type", "").rpartition("/")[2]
                yield element.get("Id", ""), Relationship(kind, part_name(target))

    def _read_types(self) -> Iterator[tuple[str, str]]:
        """Content types by a part's name, or by an extension with its dot."""
        for name, element in self._entries_of("/[content_types].xml", "types:Override", "types:Default"):
            content_type = element.get("ContentType", "").strip().lower()
            if name == "types:Override":
                yield part_name(element.get("PartName", "")), content_type
            else:
                yield f".{element.get('Extension', '').lower()}", content_type

    def _entries_of(self, directory: str, *wanted: str) -> Iterator[tuple[str, etree._Element]]:
        with suppress(*DAMAGE):
            stream = self.opened(directory)
            if stream is not None:
                yield from ended(stream, wanted)

    def title(self) -> str | None:
        """What the properties of the document say."""
        name = next(self.related("/", "core-properties"), "/docprops/core.xml")
        return next((element.text for _, element in self._entries_of(name, "dc:title")), None)


def office_type(archive: zipfile.ZipFile) -> str | None:
    """DOCX, PPTX or XLSX, by the main part of an archive; None if it is none of them.

    Raises:
        CorruptDocument: A list of parts contains a document type declaration.
        DocumentEncrypted: It is encrypted.
        DocumentTooLarge: It is longer than any document's.
    """
    package = Package(archive, Limits(0, part_bytes=_DIRECTORY_BYTES, bytes=2 * _DIRECTORY_BYTES, parts=2))
    main = package.main_part
    content_type = package.content_type(main)
    if content_type in _UNTOLD_TYPES:
        return _USUAL_MAIN_PARTS.get(main) if package.has(main) else None
    return next((found for mark, found in _IN_CONTENT_TYPES if mark in content_type), None)


def part_name(name: str) -> str:
    """A part's name from the root, as it is compared."""
    return posixpath.normpath("/" + unquote(name).replace("\\", "/").lstrip("/")).lower()
