"""The one font that stands in for Chinese, Japanese and Korean fonts which a document names but does not contain.

pdfium knows what the characters of such a font mean, but drops text whose glyphs have no size, as in a font that the
machine lacks. In the stand-in every character is the same square, so that documents read alike on every machine, and
the processes that read them open no font files.
"""

import ctypes
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import pypdfium2
from pypdfium2 import raw

_CHARSETS: Final = frozenset(
    {
        raw.FXFONT_SHIFTJIS_CHARSET,
        raw.FXFONT_GB2312_CHARSET,
        raw.FXFONT_CHINESEBIG5_CHARSET,
        raw.FXFONT_HANGEUL_CHARSET,
    }
)
_HANDLE: Final = 1
_EM: Final = 1000
_ASCENT: Final = 880
_DESCENT: Final = _ASCENT - _EM


@lru_cache(maxsize=1)
def install() -> object:
    """Let pdfium use the stand-in, and no font of the machine, from now on.

    Returns:
        What pdfium refers to, which the cache keeps alive.
    """
    fonts = raw.FPDF_SYSFONTINFO(version=1)
    callbacks: dict[str, Callable[..., object]] = {
        "Release": lambda _: None,
        "EnumFonts": lambda _, mapper: None,
        "MapFont": lambda _, weight, italic, charset, *family_and_name: _HANDLE if charset in _CHARSETS else None,
        "GetFont": lambda _, name: None,
        "GetFontData": _copy_font,
        "GetFaceName": lambda _, font, buffer, size: 0,
        "GetFontCharset": lambda _, font: raw.FXFONT_DEFAULT_CHARSET,
        "DeleteFont": lambda _, font: None,
    }
    prototypes = dict(raw.FPDF_SYSFONTINFO._fields_)
    for name, callback in callbacks.items():
        setattr(fonts, name, prototypes[name](callback))
    pypdfium2.raw.FPDF_SetSystemFontInfo(fonts)
    return fonts


def _copy_font(_: Any, font: int, table: int, buffer: Any, size: int) -> int:
    """GetFontData: the size of the font, and its bytes where there is room for them. It has no table of collections."""
    if table:
        return 0
    font_file = stand_in()
    if buffer and size >= len(font_file):
        ctypes.memmove(buffer, font_file, len(font_file))
    return len(font_file)


@lru_cache(maxsize=1)
def stand_in() -> bytes:
    """A TrueType font (OpenType specification) with a square for every character there is."""
    square = struct.pack(">hhhhh", 1, 0, _DESCENT, _EM, _ASCENT)
    square += struct.pack(">HH4B", 3, 0, 1, 1, 1, 1)  # four points on the outline, the last of them number 3
    square += struct.pack(">8h", 0, _EM, 0, -_EM, _DESCENT, 0, _EM, 0)  # steps to the right, steps up
    tables = {
        # One group of characters, format 13: all of them have glyph 1.
        b"cmap": struct.pack(">HHHHI", 0, 1, 3, 10, 12) + struct.pack(">HHIIIIII", 13, 0, 28, 0, 1, 1, 0x10FFFF, 1),
        b"glyf": square * 2,
        b"head": struct.pack(
            ">HHIIIHHqqhhhhHHhhh",
            *(1, 0, 0x10000, 0, 0x5F0F3CF5, 0, _EM, 0, 0, 0, _DESCENT, _EM, _ASCENT, 0, 8, 2, 0, 0),
        ),
        b"hhea": struct.pack(">HHhhhH11hH", 1, 0, _ASCENT, _DESCENT, 0, _EM, 0, 0, _EM, 1, *[0] * 7, 1),
        b"hmtx": struct.pack(">Hhh", _EM, 0, 0),
        b"loca": struct.pack(">HHH", 0, len(square) // 2, len(square)),
        b"maxp": struct.pack(">I14H", 0x10000, 2, 4, 1, *[0] * 11),
    }
    directory, data = struct.pack(">IHHHH", 0x10000, len(tables), 64, 2, 48), b""
    for tag, table in tables.items():
        directory += struct.pack(">4sIII", tag, 0, 12 + 16 * len(tables) + len(data), len(table))
        data += table + bytes(-len(table) % 4)
    return directory + data
