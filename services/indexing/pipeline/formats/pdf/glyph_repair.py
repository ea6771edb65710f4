"""Repairs where the glyphs of a page are not the characters of its text.

TeX draws an accent and a letter in one place, pdfium reverses the letters of an Arabic ligature, and a vowel mark comes
apart from its letter.
"""

import re
import unicodedata
from typing import Final

from services.indexing.pipeline.formats.pdf.characters import Box, Characters

_COMBINING: Final = {
    "`": "\u0300",
    "\u00b4": "\u0301",
    "\u02c6": "\u0302",
    "^": "\u0302",
    "\u02dc": "\u0303",
    "~": "\u0303",
    "\u00af": "\u0304",
    "\u02c9": "\u0304",
    "\u02d8": "\u0306",
    "\u02d9": "\u0307",
    "\u00a8": "\u0308",
    "\u02da": "\u030a",
    "\u02dd": "\u030b",
    "\u02c7": "\u030c",
    "\u00b8": "\u0327",
    "\u02db": "\u0328",
}
_DOTLESS: Final = {"\u0131": "i", "\u0237": "j"}
_ACCENT: Final = re.compile(f"[{re.escape(''.join(_COMBINING))}]")
# A mark that stands at the beginning of a word has lost its letter.
_LOST_MARK: Final = re.compile(" [\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670]")
_WORD_SPACE: Final = 0.15  # in heights of a line
_FARTHEST: Final = 200
_MOST_SEARCHES: Final = 50

_LIGATURES: Final = frozenset(
    unicodedata.normalize("NFKC", chr(code))
    for first, last in ((0xFBEA, 0xFDFB), (0xFEF5, 0xFEFC))
    for code in range(first, last + 1)
)
_REVERSED_PAIRS: Final = frozenset(ligature[::-1][:2] for ligature in _LIGATURES if len(ligature) > 1)
_ARABIC: Final = re.compile("[\u0621-\u064a\u0671-\u06d3]{2,}")


def repair(characters: Characters) -> None:
    text = "".join(characters.units)
    searches = 0
    for found in _ACCENT.finditer(text):
        accent = found.start()
        placed = any(_combine(characters, accent, letter) for letter in _near(characters.units, accent))
        # What is on every keyboard may well stand for itself.
        if not placed and not found[0].isascii() and searches < _MOST_SEARCHES:
            searches += 1
            any(_combine(characters, accent, letter) for letter in _line_around(text, accent))
    for found in _LOST_MARK.finditer(text):
        _place_mark(characters, found.start() + 1)
    for found in _ARABIC.finditer(text):
        _turn_ligatures(characters, found.start(), found.end())


def _combine(characters: Characters, accent: int, letter: int) -> bool:
    """Combine an accent with the letter, if it is drawn above or below it."""
    units = characters.units
    base = _DOTLESS.get(units[letter], units[letter])
    if not base.isalpha():
        return False
    composed = unicodedata.normalize("NFC", base + _COMBINING[units[accent]])
    if len(composed) > 1 or not _is_over(characters.ink_box(accent), characters.ink_box(letter)):
        return False
    units[accent] = ""
    if letter in _near(units, accent):
        _close_up(characters, letter, accent)
    units[letter] = composed
    return True


def _near(units: list[str], place: int) -> list[int]:
    return [near for near in (_next(units, place, 1), _next(units, place, -1)) if near is not None]


def _line_around(text: str, place: int) -> range:
    """The line of a character, as far as another font's accent may have been moved from its letter."""
    start = max(text.rfind("\n", 0, place) + 1, place - _FARTHEST)
    end = text.find("\n", place, place + _FARTHEST)
    return range(start, end if end >= 0 else min(len(text), place + _FARTHEST))


def _is_over(accent: Box, letter: Box) -> bool:
    return letter.left <= accent.middle <= letter.right and abs(accent.bottom - letter.bottom) < 2 * letter.height


def _place_mark(characters: Characters, mark: int) -> None:
    units = characters.units
    letter = _next(units, mark, 1)
    if (
        letter is not None
        and units[letter].isalpha()
        and _is_over(characters.ink_box(mark), characters.ink_box(letter))
    ):
        units[letter] += units[mark]
        units[mark] = ""
        _close_up(characters, letter, mark)


def _close_up(characters: Characters, letter: int, removed: int) -> None:
    """Drop the spaces that pdfium has put in only because of what is drawn over the letter."""
    units = characters.units
    step = 1 if removed > letter else -1
    for place in range(letter + step, removed, step):
        units[place] = ""
    beyond = _next(units, removed, step)
    if beyond is None:
        return
    here, there = characters.advance_box(letter), characters.advance_box(beyond)
    apart = max(here.left, there.left) - min(here.right, there.right)
    if apart < _WORD_SPACE * here.height:
        for place in range(removed + step, beyond, step):
            if characters.is_inserted(place):
                units[place] = ""


def _next(units: list[str], index: int, step: int) -> int | None:
    """The nearest character that is no space and was not removed, if it is near."""
    for place in range(index + step, index + 4 * step, step):
        if not 0 <= place < len(units) or units[place] in {"\r", "\n"}:
            return None
        if units[place].strip(" "):
            return place
    return None


def _turn_ligatures(characters: Characters, start: int, end: int) -> None:
    """Turn the letters of each ligature round: pdfium has reversed them together with the line."""
    units = characters.units
    place = start
    while place + 1 < end:
        if units[place] + units[place + 1] not in _REVERSED_PAIRS:
            place += 1
            continue
        origin, last = characters.origin(place), place
        while last + 1 < end and characters.origin(last + 1) == origin:
            last += 1
        if "".join(units[place : last + 1]) not in _LIGATURES:
            units[place : last + 1] = units[place : last + 1][::-1]
        place = last + 1
