"""The order of text in WordprocessingML (ECMA-376 part 1, section 17), fed one XML event at a time."""

from dataclasses import dataclass, field
from itertools import pairwise

from lxml import etree

from services.indexing.pipeline.errors import DocumentTooLarge

WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
# The same text again, for readers that do not support the newer markup next to it.
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"

PARAGRAPH = f"{WORD}p"
_TEXT, _STYLE, _OUTLINE = f"{WORD}t", f"{WORD}pStyle", f"{WORD}outlineLvl"
_LIST, _ROW, _CELL = f"{WORD}numPr", f"{WORD}tr", f"{WORD}tc"
_INLINE = {f"{WORD}tab": "\t", f"{WORD}br": "\n", f"{WORD}cr": "\n", f"{WORD}noBreakHyphen": "-"}
# Tab stops in a paragraph's formatting have the same element name as the tab character.
_PROPERTIES = f"{WORD}pPr"

BODY_TAGS = (PARAGRAPH, _TEXT, _STYLE, _OUTLINE, _LIST, _ROW, _CELL, _PROPERTIES, _FALLBACK, *_INLINE)

_HEADING, _LINE, _PROSE = "heading", "line", "prose"


@dataclass(frozen=True, slots=True)
class Styles:
    """The ids of the paragraph styles that carry structure."""

    headings: frozenset[str]
    lists: frozenset[str]


@dataclass(slots=True)
class _Paragraph:
    kind: str = _PROSE
    in_properties: bool = False
    parts: list[str] = field(default_factory=list)


class Body:
    """Collects paragraphs, list items and table rows in reading order.

    Table rows become lines with tabs between the cells; text boxes come before the paragraph that holds them.
    """

    def __init__(self, styles: Styles, max_characters: int) -> None:
        self._styles = styles
        self._remaining = max_characters
        self._blocks: list[tuple[str, str]] = []
        self._paragraphs: list[_Paragraph] = []
        self._rows: list[list[list[str]]] = []
        self._skipping = 0

    def start(self, tag: str) -> None:
        if self._skipping or tag == _FALLBACK:
            self._skipping += 1
        elif tag == PARAGRAPH:
            self._paragraphs.append(_Paragraph())
        elif tag == _PROPERTIES and self._paragraphs:
            self._paragraphs[-1].in_properties = True
        elif tag == _ROW:
            self._rows.append([])
        elif tag == _CELL and self._rows:
            self._rows[-1].append([])

    def end(self, element: etree._Element) -> None:
        tag = element.tag
        if self._skipping:
            self._skipping -= 1
        elif tag == _ROW:
            self._end_row()
        elif self._paragraphs:
            self._end_in_paragraph(element, tag, self._paragraphs[-1])

    def text(self) -> str:
        parts = [text for _, text in self._blocks[:1]]
        for (above, _), (kind, text) in pairwise(self._blocks):
            if kind == _HEADING:
                parts.append("\n\n\n")
            else:
                parts.append("\n" if above == _HEADING or above == kind == _LINE else "\n\n")
            parts.append(text)
        return "".join(parts)

    def _end_in_paragraph(self, element: etree._Element, tag: str, paragraph: _Paragraph) -> None:
        if tag == PARAGRAPH:
            self._paragraphs.pop()
            self._add(paragraph.kind, "".join(paragraph.parts))
        elif tag == _PROPERTIES:
            paragraph.in_properties = False
        elif tag == _TEXT:
            paragraph.parts.append(element.text or "")
        elif tag == _LIST and paragraph.kind == _PROSE:
            paragraph.kind = _LINE
        elif tag == _OUTLINE or (tag == _STYLE and element.get(f"{WORD}val") in self._styles.headings):
            paragraph.kind = _HEADING
        elif tag == _STYLE and element.get(f"{WORD}val") in self._styles.lists:
            paragraph.kind = _LINE
        elif tag in _INLINE and not paragraph.in_properties:
            paragraph.parts.append(_INLINE[tag])

    def _end_row(self) -> None:
        if self._rows:
            cells = self._rows.pop()
            self._add(_LINE, "\t".join(" ".join(cell) for cell in cells))

    def _add(self, kind: str, text: str) -> None:
        text = text.strip()
        if not text:
            return
        if self._rows and self._rows[-1]:
            self._rows[-1][-1].append(text)
            return
        self._remaining -= len(text)
        if self._remaining < 0:
            raise DocumentTooLarge(detail="text of the Word document")
        self._blocks.append((kind, text))
