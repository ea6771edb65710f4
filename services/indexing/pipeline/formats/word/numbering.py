"""List and heading numbers as Word shows them: "1.2", "a)", "•" (ECMA-376 part 1, 17.9).

A definition (`w:abstractNum`) has up to nine levels. Its instances (`w:num`) share one count, unless an instance starts
its own. A style of lists may stand between an instance and the definition.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from lxml import etree

from services.indexing.pipeline.formats.word import number_formats, symbols
from services.indexing.pipeline.formats.word.styles import Numbered, Styles
from services.indexing.pipeline.formats.xml_reading import names

_LEVELS = 9
# Word's own limit for the text of a level.
_LONGEST_TEXT = 255
_PLACE = re.compile(r"%([1-9])")
# What the letters of other fonts look like in bullets.
_LETTER_BULLETS = MappingProxyType({"o": "◦"})
_BULLET = "•"


@dataclass(frozen=True, slots=True)
class Level:
    """`restart` is the level after which the count begins again, counted from 1: 0 is never, None any higher one."""

    start: int = 1
    format: str = "decimal"
    text: str = ""
    restart: int | None = None
    only_digits: bool = False
    separator: str = " "
    style: str | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    levels: Mapping[int, Level]
    list_style: str | None


@dataclass(frozen=True, slots=True)
class Instance:
    definition: str
    starts: Mapping[int, int]
    levels: Mapping[int, Level]


@dataclass(slots=True)
class Numbering:
    """The lists of a document."""

    definitions: dict[str, Definition] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)

    @classmethod
    def of(cls, elements: Iterable[tuple[str, etree._Element]]) -> "Numbering":
        """From the elements `w:abstractNum` and `w:num`, with their names."""
        found = cls()
        for name, element in elements:
            if name == "w:abstractNum":
                key = names.attribute(element, "w:abstractNumId") or ""
                link = names.value(element, "w:numStyleLink")
                found.definitions[key] = Definition(dict(_levels(element)), link)
            else:
                found.instances[names.attribute(element, "w:numId") or ""] = _instance(element)
        return found

    def resolved(self, number: str, styles: Styles) -> Instance | None:
        """The instance, with the definition that has the levels; None if there is no such list."""
        instance = self.instances.get(number)
        if instance is None or instance.definition not in self.definitions:
            return None
        link = self.definitions[instance.definition].list_style
        if link is None:
            return instance
        linked = self.instances.get(styles.resolved(link).numbered.number or "")
        return None if linked is None else replace(instance, definition=linked.definition)


class Counters:
    """Counts the paragraphs of one story (the main text, a note) in the lists of its document."""

    def __init__(self, numbering: Numbering, styles: Styles) -> None:
        self._numbering = numbering
        self._styles = styles
        self._counts: dict[str, list[int | None]] = {}
        self._begun: set[str] = set()

    def label(self, direct: Numbered, style_id: str | None) -> str:
        """Count a paragraph. What stands before its text, with the white space between; empty if it is in no list."""
        style = self._styles.resolved(style_id)
        by_style = style.numbered
        number = by_style.number if direct.number is None else direct.number
        instance = None if number is None else self._numbering.resolved(number, self._styles)
        definition = None if instance is None else self._numbering.definitions.get(instance.definition)
        if number is None or instance is None or definition is None:
            return ""
        levels = {**definition.levels, **instance.levels}
        depth = direct.level
        if depth is None and direct.number is None:
            depth = _level_of(style_id, levels)
        if depth is None:
            depth = _level_of(style.listed_by, levels) if by_style.level is None else by_style.level
        depth = min(depth or 0, _LEVELS - 1)
        counts = self._count(number, instance, levels, depth)
        return _shown(levels, counts, depth)

    def _count(self, number: str, instance: Instance, levels: Mapping[int, Level], depth: int) -> list[int]:
        """The numbers of all levels down to `depth`."""
        counts = self._counts.setdefault(instance.definition, [None] * _LEVELS)
        if number not in self._begun:
            self._begun.add(number)
            for at in instance.starts:
                counts[at] = None
        starts = [instance.starts.get(at, levels[at].start if at in levels else 1) for at in range(_LEVELS)]
        before = counts[depth]
        counts[depth] = starts[depth] if before is None else before + 1
        for at in range(depth + 1, _LEVELS):
            restart = levels[at].restart if at in levels else None
            if restart is None or depth < restart:
                counts[at] = None
        return [starts[at] if (count := counts[at]) is None else count for at in range(depth + 1)]


def _level_of(style_id: str | None, levels: Mapping[int, Level]) -> int | None:
    """The level that is for the paragraphs of a style."""
    return next((at for at, level in levels.items() if style_id and level.style == style_id), None)


def _shown(levels: Mapping[int, Level], counts: list[int], depth: int) -> str:
    level = levels.get(depth, Level())
    if level.format == "bullet":
        return level.text and level.text + level.separator

    def number(place: re.Match[str]) -> str:
        at = int(place[1]) - 1
        if at > depth:
            return ""
        digits = level.only_digits and at != depth
        return number_formats.shown(counts[at], "decimal" if digits else levels.get(at, Level()).format)

    shown = _PLACE.sub(number, level.text)
    return shown and shown + level.separator


def _instance(element: etree._Element) -> Instance:
    starts, levels = {}, {}
    for override in element.iterfind("{*}lvlOverride"):
        at = _number(names.attribute(override, "w:ilvl"), most=_LEVELS - 1)
        start = _number(names.value(override, "w:startOverride"))
        if at is not None and start is not None:
            starts[at] = start
        levels.update(dict(_levels(override)))
    return Instance(names.value(element, "w:abstractNumId") or "", starts, levels)


def _levels(element: etree._Element) -> Iterable[tuple[int, Level]]:
    for level in element.iterfind("{*}lvl"):
        at = _number(names.attribute(level, "w:ilvl"), most=_LEVELS - 1)
        if at is not None:
            yield at, _level(level)


def _level(element: etree._Element) -> Level:
    number_format = names.value(element, "w:numFmt") or "decimal"
    # Custom formats are wrapped for readers that do not know them.
    custom = names.child(element, "mc:AlternateContent", "mc:Choice", "w:numFmt")
    if custom is not None:
        number_format = names.attribute(custom, "w:format") or "decimal"
    text = (names.value(element, "w:lvlText") or "")[:_LONGEST_TEXT]
    return Level(
        start=_number(names.value(element, "w:start")) or 0,
        format=number_format,
        text=_bullet(text, element) if number_format == "bullet" else text,
        restart=_number(names.value(element, "w:lvlRestart"), most=_LEVELS),
        only_digits=names.is_on(element, "w:isLgl"),
        separator="" if names.value(element, "w:suff") == "nothing" else " ",
        style=names.value(element, "w:pStyle"),
    )


def _bullet(text: str, level: etree._Element) -> str:
    fonts = names.child(level, "w:rPr", "w:rFonts")
    font = "" if fonts is None else names.attribute(fonts, "w:ascii") or ""
    readable = "".join(symbols.of(font, ord(character)) or _BULLET for character in text.strip())
    if not readable and names.child(level, "w:lvlPicBulletId") is not None:
        return _BULLET
    return _LETTER_BULLETS.get(readable, readable)


def _number(text: str | None, most: int = 2**31 - 1) -> int | None:
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 10:
        return None
    return min(int(text), most)
