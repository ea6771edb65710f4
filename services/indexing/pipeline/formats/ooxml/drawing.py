"""The text of a drawing (DrawingML, ECMA-376 part 1, section 20): shapes of a slide or on a sheet, with their tables.

Of alternatives for programs of different age the first that has text counts.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lxml import etree

from services.indexing.pipeline.formats.text_builder import Kind, TextBuilder
from services.indexing.pipeline.formats.word import equations

ELEMENTS = (
    *("p:sp", "p:pic", "p:cNvPr", "p:ph", "p:cxnSp", "a:p", "a:t", "a:br", "a:fld", "a:tbl", "a:tr", "a:tc", "m:oMath"),
    *("dgm:relIds", "c:chart", "cx:chart", "mc:AlternateContent", "mc:Choice", "mc:Fallback"),
)
# What programs write where nobody has described the picture.
_FILE_NAME = re.compile(r"[^\n]{0,300}\.(?:png|jpe?g|gif|bmp|emf|wmf|tiff?|svg|webp)", re.IGNORECASE)
_TITLES = frozenset({"title", "ctrTitle"})
_NOT_SHOWN = frozenset({"sldNum", "dt", "ftr", "hdr", "sldImg"})


@dataclass(slots=True)
class _Shape:
    placeholder: str = ""
    paragraphs: list[str] = field(default_factory=list)
    rows: list[list[str]] | None = None
    is_picture: bool = False


def described(properties: etree._Element) -> str:
    """What stands for a picture, by its properties (`docPr`, `cNvPr`); empty if nobody has described it."""
    text = properties.get("descr", "").strip()
    return "" if _FILE_NAME.fullmatch(text) else text


class Drawing:
    """Fed one XML event at a time; elements are emptied once read."""

    def __init__(self) -> None:
        self._shapes: list[_Shape] = []
        self._open: list[_Shape] = []
        self._words: list[str] = []
        self._in_number = False
        # Pieces of text so far, and how many there were when the open alternatives began.
        self._pieces = 0
        self._alternatives: list[int] = []
        self._skipping = 0

    def feed(self, event: str, name: str, element: etree._Element) -> None:
        if self._skipping:
            self._skipping += 1 if event == "start" else -1
            return
        if event == "start":
            self._start(name, element)
        else:
            self._end(name, element)

    def add_lines(self, lines: Iterable[str]) -> None:
        if not self._skipping and (found := [line.strip() for line in lines if line.strip()]):
            self._shapes.append(_Shape("", found))
            self._pieces += 1

    def paragraphs(self) -> Iterator[str]:
        for shape in self._shown():
            yield "\n".join([*shape.paragraphs, *("\t".join(row) for row in shape.rows or ())])

    def write(self, text: TextBuilder) -> None:
        """Add everything to a text, a title first and as a heading."""
        shown = list(self._shown())
        titles = [shape for shape in shown if shape.placeholder in _TITLES]
        for shape in titles[:1]:
            text.add(Kind.HEADING, " ".join(shape.paragraphs))
        for shape in (*titles[1:], *(shape for shape in shown if shape.placeholder not in _TITLES)):
            text.add(Kind.PROSE, "\n".join(shape.paragraphs))
            if shape.rows:
                with text.table() as rows:
                    for row in shape.rows:
                        rows.add(row)

    def _shown(self) -> Iterator[_Shape]:
        # What is damaged may have left shapes open.
        return (shape for shape in (*self._shapes, *self._open) if shape.placeholder not in _NOT_SHOWN)

    def _start(self, name: str, element: etree._Element) -> None:
        match name:
            case "p:sp" | "p:cxnSp" | "p:pic":
                self._open.append(_Shape(is_picture=name == "p:pic"))
            case "p:cNvPr" if self._open and self._open[-1].is_picture and (text := described(element)):
                self._open[-1].paragraphs.append(text)
            case "a:tbl":
                self._open.append(_Shape(rows=[]))
            case "p:ph" if self._open:
                self._open[-1].placeholder = element.get("type", "")
            case "a:tr" if self._in_table:
                self._open[-1].rows.append([])  # type: ignore[union-attr]
            case "a:fld":
                self._in_number = element.get("type", "").startswith(("slidenum", "datetime"))
            case "mc:AlternateContent":
                self._alternatives.append(self._pieces)
            case "mc:Choice" | "mc:Fallback" if self._alternatives and self._pieces > self._alternatives[-1]:
                self._skipping = 1

    def _end(self, name: str, element: etree._Element) -> None:
        match name:
            case "p:sp" | "p:cxnSp" | "p:pic" | "a:tbl" if self._open:
                self._shapes.append(self._open.pop())
            case "a:t" if not self._in_number:
                self._words.append(element.text or "")
            case "a:br":
                self._words.append("\n")
            case "a:fld":
                self._in_number = False
            case "m:oMath":
                self._words.append(equations.linear(element))
            case "a:p":
                self._end_paragraph()
                element.clear(keep_tail=True)
            case "a:tc" if self._in_table and self._open[-1].rows:
                self._open[-1].rows[-1].append(" ".join(self._open[-1].paragraphs))
                self._open[-1].paragraphs.clear()
            case "mc:AlternateContent" if self._alternatives:
                self._alternatives.pop()

    @property
    def _in_table(self) -> bool:
        return bool(self._open) and self._open[-1].rows is not None

    def _end_paragraph(self) -> None:
        text = "".join(self._words).strip()
        self._words.clear()
        if text:
            self._pieces += 1
            if not self._open:
                self._shapes.append(_Shape())
                self._shapes[-1].paragraphs.append(text)
            else:
                self._open[-1].paragraphs.append(text)
