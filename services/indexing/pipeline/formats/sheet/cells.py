"""The values of a sheet's cells (SpreadsheetML, ECMA-376 part 1, 18.3)."""

import re
from collections.abc import Iterable, Sequence

from lxml import etree

from services.indexing.pipeline.formats.sheet.number_formats import Shown, known, of_code, written
from services.indexing.pipeline.formats.xml_reading import names

_ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")


class Formats:
    """What the styles of cells show numbers as."""

    def __init__(self, elements: Iterable[tuple[str, etree._Element]] = (), *, from_1904: bool = False) -> None:
        """Of `s:numFmt` and `s:cellXfs`, in the order of the part."""
        self._from_1904 = from_1904
        defined: dict[str, Shown] = {}
        self._shown: list[Shown] = []
        for name, element in elements:
            if name == "s:numFmt":
                defined[element.get("numFmtId", "")] = of_code(element.get("formatCode", ""))
            else:
                numbers = [style.get("numFmtId", "0") for style in element]
                self._shown += [defined.get(number) or known(_whole(number)) for number in numbers]

    def written(self, value: str, style: str) -> str:
        number = _whole(style)
        shown = self._shown[number] if number < len(self._shown) else Shown.NUMBER
        return written(value, shown, from_1904=self._from_1904)


def value_of(cell: etree._Element, shared: Sequence[str], formats: Formats) -> str:
    """The value of `s:c` as text; empty for errors, which say nothing."""
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        inline = names.child(cell, "s:is")
        return "" if inline is None else string_of(inline)
    stored = names.child(cell, "s:v")
    value = "" if stored is None else stored.text or ""
    match kind:
        case "s":
            place = _whole(value)
            return shared[place] if place < len(shared) else ""
        case "b":
            return "TRUE" if value.strip() == "1" else "FALSE"
        case "e":
            return ""
        case "n":
            return formats.written(value.strip(), cell.get("s", "")) if value else ""
        case _:
            return unescaped(value)


def string_of(element: etree._Element) -> str:
    """The text of a string with its runs; without readings of its characters, which are beside it."""
    texts = []
    for child in element:
        name = names.short(child)
        if name == "s:t":
            texts.append(child.text or "")
        elif name == "s:r":
            text = names.child(child, "s:t")
            texts.append("" if text is None else text.text or "")
    return unescaped("".join(texts))


def unescaped(text: str) -> str:
    """Characters that XML cannot hold are written as `_x000D_`."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text


def _whole(value: str) -> int:
    """A number of ten digits at most, else one that is beyond every list."""
    value = value.strip()
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else 2**31
