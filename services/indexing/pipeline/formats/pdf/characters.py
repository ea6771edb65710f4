"""The characters of a page in pdfium's order, each with its place."""

import ctypes
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from pypdfium2 import raw

# pdfium marks the hyphen it found at a line's end with one of these.
LINE_HYPHENS: Final = "\x02\ufffe"

# So many characters without a meaning are found by halving the page; more, by asking for each.
_FEW: Final = 20
# The fields of FS_RECTF.
_RECTANGLE: Final = struct.Struct("4f")


class Box(NamedTuple):
    """In points, from the lower left corner of the page."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def height(self) -> float:
        return self.top - self.bottom

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2


class Characters:
    """`units` are UTF-16, as pdfium counts, and may be replaced by other strings, or by none."""

    def __init__(self, textpage: Any) -> None:
        self._page = textpage.raw
        count = textpage.count_chars()
        buffer = (ctypes.c_ushort * (count + 1))()
        written = raw.FPDFText_GetText(self._page, 0, count, buffer) - 1
        self.units: list[str] = []
        self._places: Sequence[int] = range(count)
        if 0 < count - written <= _FEW:
            self._places = [place for first, end in self._with_text(0, count) for place in range(first, end)]
        if len(self._places) == written:
            self.units += map(chr, buffer[:written])
        else:
            # Characters without a meaning are not in the text, so the others have other places there.
            self._places = [place for place in range(count) if self._add(place)]
        self.undecodable = count - len(self.units)
        self._rectangle = raw.FS_RECTF()
        self._at_rectangle = ctypes.byref(self._rectangle)
        self._numbers = tuple(ctypes.c_double() for _ in range(4))

    def text(self, first: int = 0, end: int | None = None) -> str:
        return "".join(self.units[first:end]).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")

    def advance_box(self, index: int) -> Box:
        """From the origin of a character to that of its successor, and as high as its font. Empty for rotated text."""
        raw.FPDFText_GetLooseCharBox(self._page, self._places[index], self._at_rectangle)
        left, top, right, bottom = _RECTANGLE.unpack_from(self._rectangle)
        return Box(left, bottom, right, top)

    def ink_box(self, index: int) -> Box:
        left, right, bottom, top = self._numbers
        raw.FPDFText_GetCharBox(self._page, self._places[index], left, right, bottom, top)
        return Box(left.value, bottom.value, right.value, top.value)

    def origin(self, index: int) -> tuple[float, float]:
        x, y, *_ = self._numbers
        raw.FPDFText_GetCharOrigin(self._page, self._places[index], x, y)
        return x.value, y.value

    def is_inserted(self, index: int) -> bool:
        """Whether pdfium put it between two others."""
        box = self.ink_box(index)
        return box.left == box.right or raw.FPDFText_IsGenerated(self._page, self._places[index]) == 1

    def has_meaning(self, index: int) -> bool:
        """Whether the document says which character it is."""
        return bool(raw.FPDFText_HasUnicodeMapError(self._page, self._places[index]) != 1)

    def _with_text(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """The ranges of places between `first` and `end` that are in the text."""
        begins = raw.FPDFText_GetTextIndexFromCharIndex(self._page, first)
        ends = raw.FPDFText_GetTextIndexFromCharIndex(self._page, end - 1)
        if begins >= 0 and ends - begins == end - 1 - first:
            yield first, end
        elif end - first > 1:
            middle = (first + end) // 2
            yield from self._with_text(first, middle)
            yield from self._with_text(middle, end)

    def _add(self, place: int) -> bool:
        code = raw.FPDFText_GetUnicode(self._page, place)
        if raw.FPDFText_IsHyphen(self._page, place) == 1:
            self.units.append(LINE_HYPHENS[0])
        elif code >= ord(" ") or code in b"\t\r\n":
            self.units.append(chr(code))
        else:
            return False
        return True
