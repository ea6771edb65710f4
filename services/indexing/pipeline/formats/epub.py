"""E-books (.epub) to plain text: the chapters in reading order, each read as the page of HTML that it is.

The limits are those of Word documents. Chapters that are damaged or missing are left out; one has to be whole.
"""

import posixpath
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import unquote

from services.indexing.pipeline.documents import EPUB, Extracted
from services.indexing.pipeline.errors import CorruptDocument, DocumentEncrypted, EmptyDocument, UnsupportedContentType
from services.indexing.pipeline.formats import html, text
from services.indexing.pipeline.formats.limits import Limits
from services.indexing.pipeline.formats.ooxml.package import Package, part_name
from services.indexing.pipeline.formats.text_builder import TextBuilder
from services.indexing.pipeline.formats.xml_reading.events import DAMAGE, ended
from services.indexing.pipeline.memory_files import Stream

DAMAGED_CHAPTER = "damaged_chapter"
_PAGES = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document"})
# Ways to keep fonts from being copied, which leave the text as it is.
_OF_FONTS = frozenset({"http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"})


def extract(content: memoryview, *, max_characters: int) -> Extracted:
    """Read an e-book.

    Raises:
        ExtractionError: It is damaged, protected, holds no text, or exceeds a limit.
    """
    try:
        with zipfile.ZipFile(Stream(content)) as archive:
            return _Book(Package(archive, Limits.of_document(max_characters))).read(max_characters)
    except DAMAGE as error:
        raise CorruptDocument("epub", detail=str(error)) from error


class _Book:
    def __init__(self, package: Package) -> None:
        self._package = package
        self._title: str | None = None

    def read(self, max_characters: int) -> Extracted:
        self._require_no_protection()
        builder = TextBuilder(max_characters)
        damaged = False
        for name in self._chapters():
            try:
                with builder.section({}), suppress(EmptyDocument):
                    builder.embed(self._chapter(name, max_characters))
            except (*DAMAGE, UnsupportedContentType):
                damaged = True
        if damaged and builder.is_empty:
            raise CorruptDocument("epub", detail="no chapter can be read")
        return builder.extracted(EPUB, self._title, partly_read=[DAMAGED_CHAPTER] if damaged else [])

    def _require_no_protection(self) -> None:
        stream = self._package.opened("/meta-inf/encryption.xml")
        if stream is not None:
            for _, element in ended(stream, ["enc:EncryptionMethod"]):
                # Those of keys are within the keys.
                if element.get("Algorithm") not in _OF_FONTS:
                    raise DocumentEncrypted()

    def _chapters(self) -> Iterator[str]:
        """Names of the pages in reading order."""
        container = self._package.opened("/meta-inf/container.xml")
        if container is None:
            raise CorruptDocument("epub", detail="no container")
        paths = [element.get("full-path", "") for _, element in ended(container, ["container:rootfile"])]
        root = part_name(paths[0]) if paths else ""
        stream = self._package.opened(root)
        if stream is None:
            raise CorruptDocument("epub", detail="no list of contents")
        pages: dict[str, str] = {}
        for name, element in ended(stream, ["dc:title", "opf:item", "opf:itemref"]):
            if name == "dc:title":
                self._title = self._title or element.text
            elif name == "opf:itemref":
                if page := pages.pop(element.get("idref", ""), None):
                    yield page
            elif element.get("media-type", "").lower() in _PAGES:
                target = posixpath.join(posixpath.dirname(root), unquote(element.get("href", "").partition("#")[0]))
                pages[element.get("id", "")] = part_name(target)

    def _chapter(self, name: str, max_characters: int) -> Extracted:
        stream = self._package.opened(name)
        if stream is None:
            raise zipfile.BadZipFile(f"no chapter {name}")
        with stream:
            data = stream.read(4 * max_characters)
        return html.extract(text.decode(data))
