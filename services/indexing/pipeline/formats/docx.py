"""Word documents (.docx) to plain text, straight from the archive's XML.

Only the parts that hold text are unpacked, as a stream, so a document full of pictures costs no memory. python-docx,
which reads every part into memory first, is used in tests to write the samples.

Refused: XML with a document type declaration (Office never writes one; it is how entity bombs are made) and parts that
unpack to more than `MAX_PART_BYTES`. zipfile never yields more than an entry's declared size: checking that is enough.
"""

import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO

from lxml import etree

from services.indexing.pipeline.documents import DOCX, Extracted
from services.indexing.pipeline.errors import CorruptDocument, DocumentEncrypted, DocumentTooLarge
from services.indexing.pipeline.formats.text import clean, clean_title, required
from services.indexing.pipeline.formats.wordprocessing import BODY_TAGS, PARAGRAPH, WORD, Body, Styles
from services.indexing.pipeline.memory_files import Stream

MAX_PART_BYTES = 256 * 1024 * 1024
_TITLE = "{http://purl.org/dc/elements/1.1/}title"
_ENCRYPTED_FLAG = 0x1


def extract(content: memoryview, *, max_characters: int) -> Extracted:
    try:
        with zipfile.ZipFile(Stream(content)) as archive:
            body = Body(_styles(archive), max_characters)
            for part in ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml"):
                _read_body(archive, part, body)
            title = _title(archive)
    except etree.XMLSyntaxError as error:
        if error.code == etree.ErrorTypes.ERR_NO_MEMORY:
            raise MemoryError("libxml2") from error
        raise CorruptDocument("docx", detail=str(error)) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as error:
        raise CorruptDocument("docx", detail=str(error)) from error
    return Extracted(required(clean(body.text()).strip()), DOCX, None, clean_title(title))


def warm_up() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f'<p xmlns="{WORD[1:-1]}"><r><t>warm up</t></r></p>')
    with zipfile.ZipFile(buffer) as archive:
        _read_body(archive, "word/document.xml", Body(_styles(archive), 100))


def _part(archive: zipfile.ZipFile, name: str) -> IO[bytes] | None:
    try:
        entry = archive.getinfo(name)
    except KeyError:
        return None
    if entry.flag_bits & _ENCRYPTED_FLAG:
        raise DocumentEncrypted()
    if entry.file_size > MAX_PART_BYTES:
        raise DocumentTooLarge("docx", detail=f"{name} declares {entry.file_size} bytes")
    return archive.open(entry)


def _read_body(archive: zipfile.ZipFile, name: str, body: Body) -> None:
    stream = _part(archive, name)
    if stream is None:
        return
    with stream:
        for event, element in _events(stream, BODY_TAGS):
            if event == "start":
                body.start(element.tag)
            else:
                body.end(element)
                if element.tag == PARAGRAPH:
                    # What has been read is freed at once: memory stays flat however long the document is.
                    element.clear(keep_tail=True)


def _styles(archive: zipfile.ZipFile) -> Styles:
    """Which paragraph styles are headings or list items. Word translates style ids, but not these names."""
    stream = _part(archive, "word/styles.xml")
    headings, lists = set(), set()
    if stream is not None:
        with stream:
            tree = etree.parse(stream, etree.XMLParser(resolve_entities=False, no_network=True))
        _refuse_declarations(tree)
        for style in tree.iter(f"{WORD}style"):
            name = style.find(f"{WORD}name")
            if name is not None and name.get(f"{WORD}val", "").lower().startswith(("heading ", "title")):
                headings.add(style.get(f"{WORD}styleId", ""))
            elif style.find(f"{WORD}pPr/{WORD}numPr") is not None:
                lists.add(style.get(f"{WORD}styleId", ""))
    return Styles(frozenset(headings), frozenset(lists))


def _title(archive: zipfile.ZipFile) -> str | None:
    stream = _part(archive, "docProps/core.xml")
    if stream is None:
        return None
    with stream:
        return next((element.text for event, element in _events(stream, [_TITLE]) if event == "end"), None)


def _events(stream: IO[bytes], tags: Sequence[str]) -> Iterator[tuple[str, etree._Element]]:
    checked = False
    for event, element in etree.iterparse(
        stream, events=("start", "end"), tag=tags, resolve_entities=False, no_network=True
    ):
        if not checked:
            _refuse_declarations(element.getroottree())
        checked = True
        yield event, element


def _refuse_declarations(tree: etree._ElementTree) -> None:
    if tree.docinfo.internalDTD is not None:
        raise CorruptDocument("unsafe", detail="document type declaration")
