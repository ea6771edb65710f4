"""A paragraph while it is read: its text so far, and what its properties say about it."""

from dataclasses import dataclass, field
from types import MappingProxyType

from lxml import etree

from services.indexing.pipeline.formats.text_builder import Kind
from services.indexing.pipeline.formats.word import symbols
from services.indexing.pipeline.formats.word.fields import Fields
from services.indexing.pipeline.formats.word.styles import IN_NO_LIST, Numbered, Styles, outline_level
from services.indexing.pipeline.formats.xml_reading import names

_PROPERTIES = MappingProxyType(names.qualified(["w:pStyle", "w:outlineLvl", "w:numPr", "w:framePr", "w:rPr"]))
_NO_LIST = "0"
_DROP_CAPS = frozenset({"drop", "margin"})
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


@dataclass(slots=True)
class Paragraph:
    """`joins_next`: the next paragraph continues its text. `level` is a heading's."""

    kind: Kind = Kind.PROSE
    level: int = 0
    parts: list[str] = field(default_factory=list)
    style: str | None = None
    numbered: Numbered = IN_NO_LIST
    joins_next: bool = False
    fields: Fields | None = None
    _reading_from: int = 0
    _reading: str = ""

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def write(self, text: str) -> bool:
        """Add text; whether any of it can be seen."""
        if not text or (self.fields is not None and self.fields.hide_text):
            return False
        self.parts.append(text)
        return not text.isspace()

    def write_line(self, text: str) -> bool:
        """Add text on a line of its own."""
        begun = bool(self.parts) and not self.parts[-1].endswith("\n")
        return self.write(f"\n{text}\n" if begun else f"{text}\n")

    def read_properties(self, properties: etree._Element, styles: Styles) -> None:
        """What `w:pPr` says."""
        heading = None
        for element in properties:
            match _PROPERTIES.get(element.tag):
                case "w:pStyle":
                    self.style = names.attribute(element, "w:val")
                case "w:outlineLvl":
                    heading = outline_level(element)
                case "w:numPr":
                    self.numbered = Numbered.of(element)
                    if self.numbered.number != _NO_LIST:
                        self.kind = Kind.LINE
                case "w:framePr":
                    self.joins_next |= names.attribute(element, "w:dropCap") in _DROP_CAPS
                case "w:rPr":
                    # The mark at the end of the paragraph.
                    self.joins_next |= any(names.child(element, name) is not None for name in names.REVISIONS)
        self.level = styles.resolved(self.style).heading if heading is None else heading
        if self.level:
            self.kind = Kind.HEADING

    def mark_field(self, element: etree._Element) -> bool:
        """Read a `w:fldChar`; whether that shows text."""
        if self.fields is None:
            self.fields = Fields()
        return self.write(self.fields.mark(names.attribute(element, "w:fldCharType")))

    def begin_reading(self) -> None:
        """The reading of characters (`w:rt`) comes before them."""
        self._reading_from = len(self.parts)

    def end_reading(self) -> None:
        self._reading = "".join(self.parts[self._reading_from :]).strip()
        del self.parts[self._reading_from :]

    def write_reading(self) -> None:
        if self._reading:
            self.write(f"({self._reading})")


def text_of(element: etree._Element) -> str:
    """The text of `w:t`. Its run may have the font of symbols."""
    text = element.text or ""
    if text.isascii() or not symbols.PLACES.search(text):
        return text
    run = element.getparent()
    # Properties come first, if at all: looking for them among many texts would take quadratic time.
    properties = None if run is None else run[0]
    if properties is None or names.short(properties) != "w:rPr":
        return text
    fonts = names.child(properties, "w:rFonts")
    return symbols.in_unicode(text, "" if fonts is None else names.attribute(fonts, "w:ascii") or "")


def symbol_of(element: etree._Element) -> str:
    """The character of `w:sym`."""
    place = names.attribute(element, "w:char") or ""
    if not place or len(place) > 6 or not _HEX_DIGITS.issuperset(place):
        return ""
    return symbols.of(names.attribute(element, "w:font") or "", int(place, 16))
