"""Which paragraph styles are headings, and which number or bullet their paragraphs get."""

from collections.abc import Iterable
from dataclasses import dataclass

from lxml import etree

from services.indexing.pipeline.formats.xml_reading import names

# Word refuses longer chains of styles based on each other.
_LONGEST_CHAIN = 32
_BODY_TEXT = "9"
_LEVELS = frozenset("012345678")


@dataclass(frozen=True, slots=True)
class Numbered:
    """A paragraph's place in a list, as far as it says: `w:numId` and `w:ilvl`."""

    number: str | None = None
    level: int | None = None

    @classmethod
    def of(cls, element: etree._Element) -> "Numbered":
        """What `w:numPr` says."""
        level = names.value(element, "w:ilvl")
        known = level if level is not None and len(level) == 1 and level.isdecimal() else None
        return cls(names.value(element, "w:numId"), None if known is None else int(known))


IN_NO_LIST = Numbered()


@dataclass(frozen=True, slots=True)
class Style:
    heading: int | None
    numbered: Numbered
    based_on: str | None


@dataclass(frozen=True, slots=True)
class Resolved:
    """A style with what it inherits.

    `heading` is a level from 1 on, 0 for no heading; `listed_by` is the id of the style that names the list.
    """

    heading: int = 0
    numbered: Numbered = IN_NO_LIST
    listed_by: str | None = None


class Styles:
    """The document's styles by id. Word translates ids, but not the names of its own styles."""

    def __init__(self, elements: Iterable[etree._Element] = ()) -> None:
        self._styles: dict[str | None, Style] = {}
        self._resolved: dict[str | None, Resolved] = {}
        self._default: str | None = None
        for element in elements:
            style_id = names.attribute(element, "w:styleId") or ""
            self._styles[style_id] = _style(element)
            kind = names.attribute(element, "w:type")
            if kind == "paragraph" and names.attribute(element, "w:default") in {"1", "true", "on"}:
                self._default = style_id

    def resolved(self, style_id: str | None) -> Resolved:
        """An unknown style counts as the default style, as in Word."""
        known = style_id if style_id in self._styles else self._default
        if known not in self._resolved:
            self._resolved[known] = self._resolve(known)
        return self._resolved[known]

    def _resolve(self, style_id: str | None) -> Resolved:
        heading, number, level, listed_by = None, None, None, None
        for _ in range(_LONGEST_CHAIN):
            style = self._styles.get(style_id)
            if style is None:
                break
            heading = style.heading if heading is None else heading
            level = style.numbered.level if level is None else level
            if number is None and style.numbered.number is not None:
                number, listed_by = style.numbered.number, style_id
            style_id = style.based_on
        return Resolved(heading or 0, Numbered(number, level), listed_by)


def outline_level(element: etree._Element) -> int:
    """The level of a heading that `w:outlineLvl` tells, from 1 on; 0 for body text."""
    told = names.attribute(element, "w:val") or ""
    if told == _BODY_TEXT:
        return 0
    return int(told) + 1 if told in _LEVELS else 1


def _style(element: etree._Element) -> Style:
    outline = names.child(element, "w:pPr", "w:outlineLvl")
    heading = None if outline is None else outline_level(outline)
    name = (names.value(element, "w:name") or "").lower()
    if name.startswith("title"):
        heading = 1
    elif name.startswith("heading "):
        level = name.removeprefix("heading ")
        heading = int(level) if level in _LEVELS and level != "0" else heading or 1
    place = names.child(element, "w:pPr", "w:numPr")
    return Style(heading, IN_NO_LIST if place is None else Numbered.of(place), names.value(element, "w:basedOn"))
