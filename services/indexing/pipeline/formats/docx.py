"""Word documents (.docx) to plain text, straight from the archive's XML.

Only the parts that hold text are unpacked, as a stream, so a document full of pictures costs no memory. python-docx,
which reads every part into memory first, is used in tests to write the samples.

The text is the main part's in reading order, then footnotes, endnotes, comments, headers and footers, each once. Notes
come after the main text and not inside it, so that a passage of either reads without interruption; headers and footers
come last, so that what repeats on every page does not open the document.

Refused: XML with a document type declaration, parts that unpack to more than `MAX_PART_BYTES`, and packages of which
more than `MAX_BYTES` or `MAX_PARTS` would have to be read. A part that is damaged ends where the damage is; only the
main part has to be whole.
"""

import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby

from lxml import etree

from services.indexing.pipeline.documents import DOCX, Extracted
from services.indexing.pipeline.errors import CorruptDocument, DocumentTooLarge
from services.indexing.pipeline.formats.limits import Limits
from services.indexing.pipeline.formats.ooxml.diagrams import chart_lines, diagram_lines
from services.indexing.pipeline.formats.ooxml.package import Package
from services.indexing.pipeline.formats.text_builder import Kind, TextBuilder
from services.indexing.pipeline.formats.word import alternate_chunks
from services.indexing.pipeline.formats.word.numbering import Counters, Numbering
from services.indexing.pipeline.formats.word.story import ELEMENTS, Story
from services.indexing.pipeline.formats.word.styles import Styles
from services.indexing.pipeline.formats.word.text_blocks import Block, Blocks
from services.indexing.pipeline.formats.xml_reading.events import DAMAGE, ended, events
from services.indexing.pipeline.memory_files import Stream

# Documents in documents in a document.
_DEEPEST = 2
_PARAGRAPHS = frozenset({"w:p", "a:p"})
_SAMPLE = '<p xmlns="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><r><t>warm up</t></r></p>'


def extract(content: memoryview, *, max_characters: int) -> Extracted:
    """Read a Word document.

    Raises:
        ExtractionError: The main part is damaged, the document is encrypted, holds no text, or exceeds a limit.
    """
    limits = Limits.of_document(max_characters)
    try:
        with zipfile.ZipFile(Stream(content)) as archive:
            document = _Document(Package(archive, limits), limits, depth=0)
            blocks = document.read()
            title = document.package.title()
    except DAMAGE as error:
        raise CorruptDocument("docx", detail=str(error)) from error
    return _composed(blocks.all, max_characters).extracted(DOCX, title)


def warm_up() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", _SAMPLE)
    extract(memoryview(buffer.getvalue()), max_characters=100)


def _composed(blocks: Sequence[Block], max_characters: int) -> TextBuilder:
    text = TextBuilder(max_characters)
    for is_table, together in groupby(blocks, lambda block: bool(block.cells)):
        if is_table:
            with text.table() as rows:
                for row in together:
                    rows.add_line(row.text, row.cells)
        else:
            for block in together:
                text.add(block.kind, block.text, level=block.level)
    return text


class _Document:
    def __init__(self, package: Package, limits: Limits, *, depth: int) -> None:
        self.package = package
        self._limits = limits
        self._depth = depth
        self._main = package.main_part
        self._embedded: set[str] = set()
        self._styles = Styles(element for _, element in self._elements("styles", "w:style"))
        self._numbering = Numbering.of(self._elements("numbering", "w:abstractNum", "w:num"))

    def read(self) -> Blocks:
        blocks = Blocks(self._limits)
        main = self._story(blocks, self._main)
        if not self._read(self._main, main):
            raise CorruptDocument("docx", detail=f"no part {self._main}")
        for kind in ("footnotes", "endnotes", "comments"):
            name = self._part(kind)
            with suppress(*DAMAGE):
                self._read(name, self._story(blocks, name, main.deleted_notes))
        for margin in self._margins():
            blocks.extend(margin)
        return blocks

    def _part(self, kind: str) -> str:
        """The name of the main part's only part of that kind, said or usual."""
        usual = f"{self._main.rpartition('/')[0]}/{kind}.xml"
        return next(self.package.related(self._main, kind), usual)

    def _elements(self, kind: str, *wanted: str) -> Iterator[tuple[str, etree._Element]]:
        with suppress(*DAMAGE):
            stream = self.package.opened(self._part(kind))
            if stream is not None:
                yield from ended(stream, wanted)

    def _story(self, blocks: Blocks, name: str, unwanted: frozenset[tuple[str, str]] = frozenset()) -> Story:
        """Of the part with that name."""
        counters = Counters(self._numbering, self._styles)
        return Story(blocks, self._styles, counters, partial(self._embed, name), unwanted)

    def _read(self, name: str, story: Story) -> bool:
        """Feed the part to a story; whether there is one."""
        stream = self.package.opened(name)
        if stream is None:
            return False
        with stream:
            try:
                for event, short, element in events(stream, ELEMENTS):
                    if event == "start":
                        story.start(short, element)
                        continue
                    story.end(short, element)
                    if short in _PARAGRAPHS:
                        # What has been read is freed at once: memory stays flat however long the document is.
                        element.clear(keep_tail=True)
            finally:
                story.finish()
        return True

    def _margins(self) -> Iterator[Blocks]:
        """Headers, then footers: every text once, however many sections and kinds of pages have it."""
        said = set[tuple[Block, ...]]()
        for kind in ("header", "footer"):
            for name in dict.fromkeys(self.package.related(self._main, kind)):
                blocks = Blocks(self._limits)
                with suppress(*DAMAGE):
                    self._read(name, self._story(blocks, name))
                if blocks.all not in said:
                    said.add(blocks.all)
                    yield blocks

    def _embed(self, source: str, element: str, relationship: str) -> Iterator[Block]:
        """The text of another part, unless it has been read before."""
        related = self.package.relationships(source).get(relationship)
        if related is None or related.target in self._embedded:
            return
        self._embedded.add(related.target)
        with suppress(*DAMAGE):
            if element == "w:altChunk":
                yield from self._chunk(related.target)
                return
            stream = self.package.opened(related.target)
            if stream is not None:
                lines = diagram_lines(stream) if element == "dgm:relIds" else chart_lines(stream)
                yield from (Block(Kind.LINE, line.strip()) for line in lines if line.strip())

    def _chunk(self, name: str) -> Iterator[Block]:
        stream = self.package.opened(name)
        if stream is None:
            return
        with stream:
            data = stream.read()
        if alternate_chunks.is_package(data):
            if self._depth < _DEEPEST:
                yield from self._inner(data)
            return
        if len(data) > 4 * self._limits.characters:
            raise DocumentTooLarge(detail=f"{len(data)} bytes of text in {name}")
        text = alternate_chunks.read(data, name=name, content_type=self.package.content_type(name))
        if text:
            yield Block(Kind.PROSE, text)

    def _inner(self, data: bytes) -> Iterator[Block]:
        with suppress(*alternate_chunks.UNREADABLE), zipfile.ZipFile(io.BytesIO(data)) as archive:
            inner = _Document(Package(archive, self._limits), self._limits, depth=self._depth + 1)
            yield from inner.read().all
