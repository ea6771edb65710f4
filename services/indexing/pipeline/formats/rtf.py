"""Rich text (.rtf, version 1.9.1) to plain text, in one pass over the file, group by group.

What is written for programs (fonts, styles, pictures, field codes) and what is hidden is left out, and so are groups
that are marked as optional and not known. Notes and comments come after the text, headers and footers last. A table's
row is a line with tabs between its cells.
"""

import codecs
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import MappingProxyType

from services.indexing.pipeline.documents import RTF, Extracted
from services.indexing.pipeline.errors import CorruptDocument
from services.indexing.pipeline.formats.text_builder import Kind, Rows, TextBuilder

DAMAGED_CONTENT = "damaged_content"

_TOKEN = re.compile(
    r"\\(?P<word>[A-Za-z]{1,32})(?P<number>-?\d{1,10})? ?|\\'(?P<hex>[0-9A-Fa-f]{2})|\\(?P<symbol>[^A-Za-z])"
    r"|(?P<brace>[{}])|(?P<text>[^\\{}\r\n\0]+)|[\r\n\0]+"
)
_DEEPEST = 1000
_SKIPPED = frozenset(
    re.findall(
        r"\w+",
        "colortbl filetbl listtable listoverridetable revtbl rsidtbl pict object objdata fldinst themedata "
        "colorschememapping datastore latentstyles generator xmlnstbl template pgdsctbl bkmkstart bkmkend nonshppict "
        "sp xe tc tcn atnid atnauthor atntime atnref atndate",
    )
)
_TABLES = frozenset({"fonttbl", "stylesheet", "info"})
_NOTES = frozenset({"footnote", "annotation"})
_MARGINS = frozenset({"header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr", "footerf"})
# Marked as optional, and yet text that is shown.
_SHOWN = frozenset({"shptxt", "shpinst", "annotation", "footnote", "pntext"})
_CHARACTERS: Mapping[str, str] = MappingProxyType(
    {
        "tab": "\t", "line": "\n", "lquote": "\u2018", "rquote": "\u2019", "ldblquote": "\u201c", "rdblquote": "\u201d",
        "bullet": "\u2022", "endash": "\u2013", "emdash": "\u2014", "enspace": " ", "emspace": " ", "qmspace": " ",
    }
)  # fmt: skip
_SYMBOLS: Mapping[str, str] = MappingProxyType({"~": "\u00a0", "_": "-", "\\": "\\", "{": "{", "}": "}", "\t": "\t"})
# What `\fcharset` calls a font's encoding; 77 is that of the Macintosh.
_CHARSETS: Mapping[int, str] = MappingProxyType(
    {
        77: "mac_roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "gbk", 136: "cp950", 161: "cp1253",
        162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874",
        238: "cp1250",
    }
)  # fmt: skip
_HEADING = re.compile(r"heading ([1-9])\b", re.IGNORECASE)


@dataclass(slots=True)
class _Group:
    """What a group inherits from the one around it, and changes for itself. `place` is the table it is part of."""

    skipped: bool = False
    hidden: bool = False
    codec: str | None = None
    substitutes: int = 1
    place: str = ""
    optional: bool = False
    # Where the text around a note or margin goes on, when this group ends.
    around: list[str] | None = None
    aside: list[str] | None = None


def extract(content: memoryview, *, max_characters: int) -> Extracted:
    """Read rich text. A damaged file ends where the damage is.

    Raises:
        ExtractionError: It has groups too deep inside each other, no text, or too much of it.
    """
    with _Reading(TextBuilder(max_characters)) as reading:
        whole = reading.read(bytes(content).decode("latin-1"))
    for aside in (*reading.notes, *dict.fromkeys(reading.margins)):
        reading.text.add(Kind.PROSE, aside)
    return reading.text.extracted(RTF, reading.title, partly_read=[] if whole else [DAMAGED_CONTENT])


class _Reading:
    def __init__(self, text: TextBuilder) -> None:
        self.text = text
        self.title = ""
        self.notes: list[str] = []
        self.margins: list[str] = []
        self._groups = [_Group()]
        self._words: list[str] = []
        self._bytes = bytearray()
        self._units: list[int] = []
        self._to_skip = 0
        self._default = "cp1252"
        self._font = self._style = self._level = 0
        self._fonts: dict[int, str] = {}
        self._levels: dict[int, int] = {}
        self._cells: list[str] = []
        self._in_row = False
        self._table: Rows | None = None
        self._tables = ExitStack()

    def __enter__(self) -> "_Reading":
        return self

    def __exit__(self, *_: object) -> None:
        self._tables.close()

    @property
    def _group(self) -> _Group:
        return self._groups[-1]

    def read(self, data: str) -> bool:
        """Returns whether all groups end."""
        place = 0
        while (token := _TOKEN.match(data, place)) is not None:
            place = token.end()
            match token.lastgroup:
                case "text":
                    self._read_characters(token["text"])
                case "hex":
                    self._read_characters(chr(int(token["hex"], 16)))
                case "brace":
                    self._flush()
                    if token["brace"] == "{":
                        self._open()
                    elif not self._close():
                        break
                case "symbol":
                    self._read_symbol(token["symbol"])
                case "word" | "number":
                    number = token["number"]
                    if token["word"] == "bin":
                        place += max(int(number or 0), 0)
                    else:
                        self._read_word(token["word"], None if number is None else int(number))
        self._flush()
        whole = len(self._groups) == 1
        while len(self._groups) > 1:
            self._close()
        if self._cells:
            self._end_row(None)
        self._end_paragraph()
        return whole

    # --- groups

    def _open(self) -> None:
        if len(self._groups) > _DEEPEST:
            raise CorruptDocument("rtf", detail=f"more than {_DEEPEST} groups in each other")
        self._groups.append(replace(self._group, optional=False, around=None, aside=None))

    def _close(self) -> bool:
        """Returns whether the document goes on."""
        group = self._group
        if group.around is not None and group.aside is not None:
            group.aside.append("".join(self._words).strip())
            self._words = group.around
        if len(self._groups) > 1:
            self._groups.pop()
        return len(self._groups) > 1

    def _set_aside(self, to: list[str]) -> None:
        if not self._group.skipped and self._group.around is None:
            self._group.around, self._group.aside = self._words, to
            self._group.place = "aside"
            self._words = []

    # --- characters

    def _read_characters(self, characters: str) -> None:
        if self._to_skip:
            skipped = min(self._to_skip, len(characters))
            self._to_skip -= skipped
            characters = characters[skipped:]
        if characters:
            self._end_units()
            self._bytes += characters.encode("latin-1")

    def _read_symbol(self, symbol: str) -> None:
        if symbol in "\\{}":
            self._read_characters(symbol)
            return
        self._flush()
        if symbol == "*":
            self._group.optional = True
        elif symbol in "\r\n":
            self._end_line()
        elif symbol in _SYMBOLS:
            self._write(_SYMBOLS[symbol])

    def _read_unit(self, number: int) -> None:
        self._end_bytes()
        self._units.append(number % 65536)
        self._to_skip = self._group.substitutes

    def _flush(self) -> None:
        self._to_skip = 0
        self._end_bytes()
        self._end_units()

    def _end_bytes(self) -> None:
        if self._bytes:
            text = self._bytes.decode(self._group.codec or self._default, errors="replace")
            self._bytes.clear()
            self._write(text)

    def _end_units(self) -> None:
        if self._units:
            units = b"".join(unit.to_bytes(2, "little") for unit in self._units)
            self._units.clear()
            self._write(units.decode("utf-16-le", errors="replace"))

    def _write(self, text: str) -> None:
        group = self._group
        match group.place:
            case "stylesheet":
                if found := _HEADING.search(text):
                    self._levels[self._style] = int(found[1])
            case "title":
                self.title += text
            case "fonttbl" | "info":
                pass
            case _ if not group.skipped and not group.hidden:
                self._words.append(text)

    # --- control words

    def _read_word(self, word: str, number: int | None) -> None:
        if word == "u" and number is not None:
            self._read_unit(number)
            return
        self._flush()
        group = self._group
        if group.optional:
            group.optional = False
            if word not in _SHOWN:
                group.skipped = True
        if word in _SKIPPED:
            group.skipped = True
        elif word in _TABLES:
            group.place = word
        elif word == "title" and group.place == "info":
            group.place = "title"
        elif word in _NOTES or word in _MARGINS:
            self._set_aside(self.notes if word in _NOTES else self.margins)
        elif word in _CHARACTERS:
            self._write(_CHARACTERS[word])
        elif word in _WORDS:
            _WORDS[word](self, number)

    def _set_code_page(self, number: int | None) -> None:
        self._default = _known(f"cp{number}") or self._default

    def _set_font(self, number: int | None) -> None:
        self._font = number or 0
        if self._group.place != "fonttbl":
            self._group.codec = self._fonts.get(self._font)

    def _set_charset(self, number: int | None) -> None:
        if codec := _known(_CHARSETS.get(number or 0, "")):
            self._fonts[self._font] = codec

    def _set_style(self, number: int | None) -> None:
        self._style = number or 0
        if self._group.place != "stylesheet":
            self._level = self._levels.get(self._style, 0)

    def _set_level(self, number: int | None) -> None:
        if self._group.place != "stylesheet":
            self._level = (number or 0) + 1 if (number or 0) < 9 else 0

    def _reset_paragraph(self, _: int | None) -> None:
        self._level, self._in_row = 0, False

    def _enter_row(self, _: int | None) -> None:
        self._in_row = True

    def _hide(self, number: int | None) -> None:
        self._group.hidden = number != 0

    def _set_substitutes(self, number: int | None) -> None:
        self._group.substitutes = min(max(number or 0, 0), 10)

    # --- paragraphs and tables

    def _end_line(self, _: int | None = None) -> None:
        group = self._group
        if group.skipped or group.place in {*_TABLES, "title"}:
            return
        if group.place == "aside" or self._in_row:
            self._words.append("\n")
        else:
            self._end_paragraph()

    def _end_paragraph(self) -> None:
        text = "".join(self._words).strip()
        self._words.clear()
        if text:
            self._tables.close()
            self._table = None
            self.text.add(Kind.HEADING if self._level else Kind.PROSE, text, level=self._level)

    def _end_cell(self, _: int | None) -> None:
        if self._group.place != "aside" and not self._group.skipped:
            self._cells.append("".join(self._words))
            self._words.clear()

    def _end_row(self, _: int | None) -> None:
        if self._group.place == "aside":
            return
        if self._table is None:
            self._table = self._tables.enter_context(self.text.table())
        self._table.add(self._cells)
        self._cells.clear()


def _known(codec: str) -> str | None:
    try:
        return codecs.lookup(codec).name
    except LookupError:
        return None


_WORDS: Mapping[str, Callable[[_Reading, int | None], None]] = MappingProxyType(
    {
        "ansicpg": _Reading._set_code_page,
        "f": _Reading._set_font,
        "fcharset": _Reading._set_charset,
        "s": _Reading._set_style,
        "outlinelevel": _Reading._set_level,
        "pard": _Reading._reset_paragraph,
        "intbl": _Reading._enter_row,
        "v": _Reading._hide,
        "uc": _Reading._set_substitutes,
        "par": _Reading._end_line,
        "sect": _Reading._end_line,
        "page": _Reading._end_line,
        "cell": _Reading._end_cell,
        "nestcell": _Reading._end_cell,
        "row": _Reading._end_row,
        "nestrow": _Reading._end_row,
    }
)
