"""XML of untrusted parts, one event at a time.

Nothing is loaded or expanded: entities stay unresolved, and a document type declaration is refused (Office never writes
one; it is how entity bombs are made). Elements are nested at most 256 deep, which is libxml2's limit.
"""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import IO

from lxml import etree

from services.indexing.pipeline.errors import CorruptDocument
from services.indexing.pipeline.formats.xml_reading import names

# What reading a damaged archive or part raises. `zipfile` lets the errors of the compression methods through.
DAMAGE = (
    etree.XMLSyntaxError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    ValueError,
)

# Entities in attributes are expanded whatever the options; libxml2 stops where they become much longer than the part.
_EXPANDS = "entity amplification"


def events(stream: IO[bytes], wanted: Iterable[str]) -> Iterator[tuple[str, str, etree._Element]]:
    """Starts and ends of the elements with the `wanted` short names: "start" or "end", short name, element.

    What is between comments is one text, as a reader sees it.

    Raises:
        CorruptDocument: There is a document type declaration, or entities are used.
        MemoryError: libxml2 got no memory.
        etree.XMLSyntaxError: The part is damaged; what came before has been yielded.
    """
    tags = names.qualified(wanted)
    parser = None
    try:
        parser = etree.iterparse(
            stream,
            events=("start", "end"),
            tag=list(tags),
            resolve_entities=False,
            no_network=True,
            remove_comments=True,
            remove_pis=True,
        )
        checked = False
        for event, element in parser:
            if not checked:
                _refuse_declarations(element)
            checked = True
            yield event, tags[element.tag], element
    except etree.XMLSyntaxError as error:
        if error.code == etree.ErrorTypes.ERR_NO_MEMORY:
            raise MemoryError("libxml2") from error
        if _EXPANDS in str(error):
            raise CorruptDocument("unsafe", detail=str(error)) from error
        raise
    if parser.root is not None:
        _refuse_declarations(parser.root)


def ended(stream: IO[bytes], wanted: Iterable[str]) -> Iterator[tuple[str, etree._Element]]:
    """The `wanted` elements, complete, with their short names. Each is emptied when the next one is asked for."""
    with stream:
        for event, name, element in events(stream, wanted):
            if event == "end":
                yield name, element
                element.clear(keep_tail=True)


def _refuse_declarations(element: etree._Element) -> None:
    if element.getroottree().docinfo.internalDTD is not None:
        raise CorruptDocument("unsafe", detail="document type declaration")
