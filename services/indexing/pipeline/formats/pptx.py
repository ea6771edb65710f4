"""Presentations (.pptx) to plain text, straight from the archive's XML: the slides in order, each a section.

Of a slide, its title comes first and is a heading, then the other shapes in the order they lie in, tables, diagrams and
charts among them, then the speaker's notes and comments. Hidden slides count; numbers, dates and footers of slides and
what only their layouts show do not.

The limits are those of Word documents. A slide that is damaged ends where the damage is; some slide has to be whole.
"""

import zipfile
from collections.abc import Iterator
from contextlib import suppress
from types import MappingProxyType

from lxml import etree

from services.indexing.pipeline.documents import PPTX, Extracted
from services.indexing.pipeline.errors import CorruptDocument
from services.indexing.pipeline.formats.limits import Limits
from services.indexing.pipeline.formats.ooxml.diagrams import chart_lines, diagram_lines
from services.indexing.pipeline.formats.ooxml.drawing import ELEMENTS, Drawing
from services.indexing.pipeline.formats.ooxml.package import Package
from services.indexing.pipeline.formats.text_builder import Kind, TextBuilder
from services.indexing.pipeline.formats.xml_reading import names
from services.indexing.pipeline.formats.xml_reading.events import DAMAGE, ended, events
from services.indexing.pipeline.memory_files import Stream

DAMAGED_SLIDE = "damaged_slide"
_EMBEDDED = MappingProxyType({"dgm:relIds": "r:dm", "c:chart": "r:id", "cx:chart": "r:id"})


def extract(content: memoryview, *, max_characters: int) -> Extracted:
    """Read a presentation.

    Raises:
        ExtractionError: It is damaged, encrypted, holds no text, or exceeds a limit.
    """
    limits = Limits.of_document(max_characters)
    try:
        with zipfile.ZipFile(Stream(content)) as archive:
            presentation = _Presentation(Package(archive, limits), TextBuilder(max_characters))
            return presentation.read()
    except DAMAGE as error:
        raise CorruptDocument("pptx", detail=str(error)) from error


class _Presentation:
    def __init__(self, package: Package, text: TextBuilder) -> None:
        self._package = package
        self._text = text
        self._main = package.main_part

    def read(self) -> Extracted:
        slides = self._slides()
        damaged: Exception | None = None
        whole = 0
        for number, name in enumerate(slides, start=1):
            with self._text.section({"slide": number}):
                try:
                    self._read_slide(name)
                    whole += 1
                except DAMAGE as error:
                    damaged = error
                self._read_notes(name)
        if damaged is not None and not whole:
            raise CorruptDocument("pptx", detail=str(damaged)) from damaged
        return self._text.extracted(PPTX, self._package.title(), partly_read=[DAMAGED_SLIDE] if damaged else [])

    def _slides(self) -> list[str]:
        """Names of the slides' parts, in order."""
        stream = self._package.opened(self._main)
        if stream is None:
            raise CorruptDocument("pptx", detail=f"no part {self._main}")
        related = self._package.relationships(self._main)
        with suppress(*DAMAGE):
            ids = [names.attribute(element, "r:id") or "" for _, element in ended(stream, ["p:sldId"])]
            return [related[key].target for key in ids if key in related]
        return list(self._package.related(self._main, "slide"))

    def _read_slide(self, name: str) -> None:
        stream = self._package.opened(name)
        if stream is None:
            raise zipfile.BadZipFile(f"no part {name}")
        drawing = Drawing()
        with stream:
            try:
                for event, short, element in events(stream, ELEMENTS):
                    drawing.feed(event, short, element)
                    if event == "end":
                        self._embed(drawing, name, short, element)
            finally:
                drawing.write(self._text)

    def _embed(self, drawing: Drawing, slide: str, name: str, element: etree._Element) -> None:
        """Add the text of a diagram or chart, which are parts of their own."""
        if name not in _EMBEDDED:
            return
        related = self._package.relationships(slide).get(names.attribute(element, _EMBEDDED[name]) or "")
        if related is None:
            return
        with suppress(*DAMAGE):
            stream = self._package.opened(related.target)
            if stream is not None:
                drawing.add_lines(diagram_lines(stream) if name == "dgm:relIds" else chart_lines(stream))

    def _read_notes(self, slide: str) -> None:
        for kind in ("notesSlide", "comments"):
            for name in self._package.related(slide, kind):
                with suppress(*DAMAGE):
                    for text in self._paragraphs(name):
                        self._text.add(Kind.PROSE, text)

    def _paragraphs(self, name: str) -> Iterator[str]:
        stream = self._package.opened(name)
        if stream is None:
            return
        notes = Drawing()
        with stream:
            for event, short, element in events(stream, [*ELEMENTS, "p:text"]):
                if short == "p:text":
                    if event == "end":
                        yield element.text or ""
                else:
                    notes.feed(event, short, element)
        yield from notes.paragraphs()
