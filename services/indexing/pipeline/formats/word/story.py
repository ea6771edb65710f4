"""The order of text in WordprocessingML (ECMA-376 part 1, section 17), fed one XML event at a time.

The text is what Word shows when all changes are accepted: inserted text, and moved text where it went to; deleted text
and what refers to notes from it are left out. A paragraph whose end is deleted continues in the next one, and so does
one that is a drop cap. Of alternatives for programs of different age the first that has text counts.

Table rows become lines with tabs between the cells. Text boxes, diagrams, charts and what describes pictures stand
before the paragraph that holds them. List items and headings begin with their number or bullet. The reading of
characters (ruby) follows them in brackets.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from lxml import etree

from services.indexing.pipeline.formats.ooxml.drawing import described
from services.indexing.pipeline.formats.text_builder import Kind
from services.indexing.pipeline.formats.word import equations
from services.indexing.pipeline.formats.word.fields import chosen
from services.indexing.pipeline.formats.word.numbering import Counters
from services.indexing.pipeline.formats.word.paragraph import Paragraph, symbol_of, text_of
from services.indexing.pipeline.formats.word.styles import Styles
from services.indexing.pipeline.formats.word.text_blocks import Block, Blocks
from services.indexing.pipeline.formats.xml_reading import names

# The text of another part: the element that refers to it, and the id of the relationship.
Embedded = Callable[[str, str], Iterable[Block]]

_NOTES = frozenset({"w:footnote", "w:endnote", "w:comment"})
_NOTE_REFERENCES = frozenset({f"{note}Reference" for note in _NOTES})
_SEPARATORS = frozenset({"separator", "continuationSeparator", "continuationNotice"})
_INLINE = MappingProxyType(
    {"w:tab": "\t", "w:ptab": "\t", "w:br": "\n", "w:cr": "\n", "a:br": "\n", "w:noBreakHyphen": "-"}
)
# Read as a whole when they end, if at all. Deleted and moved text is in the former, as are old and new properties.
_WHOLE = frozenset({*names.REVISIONS, "w:pPr", "w:trPr", "w:ffData", "m:oMath"})
_RELATIONSHIPS = MappingProxyType({"dgm:relIds": "r:dm", "c:chart": "r:id", "cx:chart": "r:id", "w:altChunk": "r:id"})


@dataclass(slots=True)
class _Row:
    cells: list[list[str]] = field(default_factory=list)
    deleted_cells: set[int] = field(default_factory=set)
    deleted: bool = False

    @property
    def shown(self) -> tuple[str, ...]:
        kept = (cell for at, cell in enumerate(self.cells) if at not in self.deleted_cells)
        return () if self.deleted else tuple(" ".join(cell) for cell in kept)

    @property
    def text(self) -> str:
        return "\t".join(self.shown).strip()


class Story:
    """Puts the text of one part (the main text, footnotes, a header) into `blocks`.

    Of its notes, those in `unwanted` are left out: pairs of "w:footnoteReference" or the like and an id.
    """

    def __init__(
        self,
        blocks: Blocks,
        styles: Styles,
        counters: Counters,
        embedded: Embedded,
        unwanted: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        self._blocks = blocks
        self._styles = styles
        self._counters = counters
        self._embedded = embedded
        self._unwanted = unwanted
        self._paragraphs: list[Paragraph] = []
        self._rows: list[_Row] = []
        # How many elements are open from the one on that is read as a whole, and the name of that one.
        self._skipping = 0
        self._skipped = ""
        # Text that belongs to the next paragraph, and how many paragraphs that one is in.
        self._carried: list[str] = []
        self._carried_depth = 0
        # Pieces of text so far, and how many there were when the open alternatives began.
        self._pieces = 0
        self._alternatives: list[int] = []
        self._referred: set[tuple[str, str]] = set()
        self._dropped: set[tuple[str, str]] = set()

    @property
    def deleted_notes(self) -> frozenset[tuple[str, str]]:
        """Notes that only deleted text refers to."""
        return frozenset(self._dropped - self._referred)

    def start(self, name: str, element: etree._Element) -> None:
        if self._skipping:
            self._skipping += 1
        elif name in _WHOLE:
            self._skip(name)
        elif name in _STARTS:
            _STARTS[name](self, name, element)

    def end(self, name: str, element: etree._Element) -> None:
        if self._skipping:
            self._skipping -= 1
            if self._skipping:
                if name in _NOTE_REFERENCES and self._skipped in names.REVISIONS:
                    self._dropped.add((name, names.attribute(element, "w:id") or ""))
                return
        if name in _INLINE:
            self._write(_INLINE[name])
        elif name in _ENDS:
            _ENDS[name](self, name, element)

    def finish(self) -> None:
        """The part has ended; a damaged one perhaps in the middle of a paragraph."""
        while self._paragraphs:
            self._close(self._paragraphs.pop())
        while self._rows:
            self._end_row()
        self._drop_carried()

    def _skip(self, name: str) -> None:
        self._skipping, self._skipped = 1, name

    # --- paragraphs

    def _start_paragraph(self, name: str, _: etree._Element) -> None:
        depth = len(self._paragraphs)
        if depth < self._carried_depth:
            self._drop_carried()
        paragraph = Paragraph(Kind.PROSE if name == "w:p" else Kind.LINE)
        if depth == self._carried_depth:
            # The list itself: many paragraphs that continue each other are not copied again and again.
            paragraph.parts, self._carried = self._carried, []
        self._paragraphs.append(paragraph)

    def _read_properties(self, _: str, element: etree._Element) -> None:
        if self._paragraphs:
            self._paragraphs[-1].read_properties(element, self._styles)

    def _end_paragraph(self, name: str, _: etree._Element) -> None:
        if self._paragraphs:
            self._close(self._paragraphs.pop(), in_lists=name == "w:p")

    def _close(self, paragraph: Paragraph, *, in_lists: bool = True) -> None:
        if paragraph.joins_next:
            # Of a text box in this paragraph, which ends first.
            self._drop_carried()
            self._carried, self._carried_depth = paragraph.parts, len(self._paragraphs)
            return
        text = paragraph.text.strip()
        # A paragraph counts in its list even when there is nothing in it.
        label = self._counters.label(paragraph.numbered, paragraph.style) if in_lists else ""
        if text:
            kind = Kind.LINE if label and paragraph.kind is Kind.PROSE else paragraph.kind
            self._add(Block(kind, label + text, paragraph.level))

    def _drop_carried(self) -> None:
        carried, self._carried = "".join(self._carried).strip(), []
        if carried:
            self._add(Block(Kind.PROSE, carried))

    # --- tables

    def _start_row(self, _: str, __: etree._Element) -> None:
        self._drop_carried()
        self._rows.append(_Row())

    def _start_cell(self, _: str, __: etree._Element) -> None:
        if self._rows:
            self._rows[-1].cells.append([])

    def _end_cell(self, _: str, __: etree._Element) -> None:
        self._drop_carried()

    def _read_row(self, _: str, element: etree._Element) -> None:
        if self._rows and names.child(element, "w:del") is not None:
            self._rows[-1].deleted = True

    def _delete_cell(self, _: str, __: etree._Element) -> None:
        if self._rows:
            self._rows[-1].deleted_cells.add(len(self._rows[-1].cells) - 1)

    def _end_row(self, *_: object) -> None:
        if self._rows:
            row = self._rows.pop()
            if row.text:
                self._add(Block(Kind.LINE, row.text, cells=row.shown))

    def _add(self, block: Block) -> None:
        self._pieces += 1
        if self._rows and self._rows[-1].cells:
            self._rows[-1].cells[-1].append(block.text)
        else:
            self._blocks.add(block)

    # --- inside a paragraph

    def _write(self, text: str) -> None:
        if self._paragraphs:
            self._pieces += self._paragraphs[-1].write(text)

    def _read_text(self, _: str, element: etree._Element) -> None:
        self._write(text_of(element))

    def _read_symbol(self, _: str, element: etree._Element) -> None:
        self._write(symbol_of(element))

    def _read_form_field(self, _: str, element: etree._Element) -> None:
        self._write(chosen(element))

    def _read_field(self, _: str, element: etree._Element) -> None:
        if self._paragraphs:
            self._pieces += self._paragraphs[-1].mark_field(element)

    def _read_instruction(self, _: str, element: etree._Element) -> None:
        fields = self._paragraphs[-1].fields if self._paragraphs else None
        if fields is not None:
            fields.instruct(element.text or "")

    def _read_equation(self, _: str, element: etree._Element) -> None:
        text, parent = equations.linear(element), element.getparent()
        if not self._paragraphs:
            if text:
                self._add(Block(Kind.PROSE, text))
        elif parent is not None and names.short(parent) == "m:oMathPara":
            self._pieces += self._paragraphs[-1].write_line(text)
        else:
            self._write(text)

    def _begin_reading(self, _: str, __: etree._Element) -> None:
        if self._paragraphs:
            self._paragraphs[-1].begin_reading()

    def _end_reading(self, _: str, __: etree._Element) -> None:
        if self._paragraphs:
            self._paragraphs[-1].end_reading()

    def _write_reading(self, _: str, __: etree._Element) -> None:
        if self._paragraphs:
            self._paragraphs[-1].write_reading()

    # --- alternatives, notes and other parts

    def _start_alternatives(self, _: str, __: etree._Element) -> None:
        self._alternatives.append(self._pieces)

    def _start_alternative(self, name: str, _: etree._Element) -> None:
        if self._alternatives and self._pieces > self._alternatives[-1]:
            self._skip(name)

    def _end_alternatives(self, _: str, __: etree._Element) -> None:
        if self._alternatives:
            self._alternatives.pop()

    def _start_note(self, name: str, element: etree._Element) -> None:
        reference = (f"{name}Reference", names.attribute(element, "w:id") or "")
        if reference in self._unwanted or names.attribute(element, "w:type") in _SEPARATORS:
            self._skip(name)

    def _end_note(self, _: str, __: etree._Element) -> None:
        self._drop_carried()

    def _refer(self, name: str, element: etree._Element) -> None:
        self._referred.add((name, names.attribute(element, "w:id") or ""))

    def _read_word_art(self, _: str, element: etree._Element) -> None:
        text = (element.get("string") or "").strip()
        if text:
            self._add(Block(Kind.PROSE, text))

    def _read_description(self, _: str, element: etree._Element) -> None:
        pieces = self._pieces
        if text := described(element):
            self._add(Block(Kind.PROSE, text))
        # It is no alternative to what it describes.
        self._pieces = pieces

    def _read_embedded(self, name: str, element: etree._Element) -> None:
        relationship = names.attribute(element, _RELATIONSHIPS[name])
        if relationship is not None:
            for block in self._embedded(name, relationship):
                self._add(block)


_Handler = Callable[[Story, str, etree._Element], None]
_STARTS: Mapping[str, _Handler] = MappingProxyType(
    {
        "w:p": Story._start_paragraph,
        "a:p": Story._start_paragraph,
        "w:tr": Story._start_row,
        "w:tc": Story._start_cell,
        "w:rt": Story._begin_reading,
        "wp:docPr": Story._read_description,
        "mc:AlternateContent": Story._start_alternatives,
        "mc:Choice": Story._start_alternative,
        "mc:Fallback": Story._start_alternative,
        **dict.fromkeys(_NOTES, Story._start_note),
    }
)
_ENDS: Mapping[str, _Handler] = MappingProxyType(
    {
        "w:p": Story._end_paragraph,
        "a:p": Story._end_paragraph,
        "w:pPr": Story._read_properties,
        "w:t": Story._read_text,
        "a:t": Story._read_text,
        "w:sym": Story._read_symbol,
        "w:fldChar": Story._read_field,
        "w:instrText": Story._read_instruction,
        "w:ffData": Story._read_form_field,
        "m:oMath": Story._read_equation,
        "w:rt": Story._end_reading,
        "w:ruby": Story._write_reading,
        "w:trPr": Story._read_row,
        "w:cellDel": Story._delete_cell,
        "w:tc": Story._end_cell,
        "w:tr": Story._end_row,
        "mc:AlternateContent": Story._end_alternatives,
        "v:textpath": Story._read_word_art,
        **dict.fromkeys(_NOTES, Story._end_note),
        **dict.fromkeys(_NOTE_REFERENCES, Story._refer),
        **dict.fromkeys(_RELATIONSHIPS, Story._read_embedded),
    }
)
ELEMENTS = frozenset({*_WHOLE, *_STARTS, *_ENDS, *_INLINE})
"""What a story has to be fed with."""
