"""Words and characters of a text, with where they stand.

Words are runs of letters, digits and their marks; an apostrophe joins two (UAX 29 without the joining of punctuation
between letters or digits: `1.5`, `snake_case` and `e-mail` are two words each, so that either is found). Scripts
written without spaces between words, and Korean, whose particles are written onto words, give runs of characters
instead, each character with its marks.
"""

import re
import sys
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

MAX_WORD: Final = 64
"""Words are compared by this many code points."""

# Thai, Lao, Burmese, Khmer, Hangul, kana, Han.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc\U00020000-\U000323af"
)
_JOINERS: Final = "\u00ad\u200c\u200d"
_HALF_WIDTH_MARKS: Final = "\uff9e\uff9f"

# The same for most texts, and twice as fast.
_ASCII_TOKEN: Final = re.compile(r"[A-Za-z0-9]++(?:'(?!\d)[A-Za-z0-9]++)?")

Token = re.Match[str]
"""Of a word, or of a run of characters, where `lastgroup` is `RUN`."""

RUN: Final = "run"


def tokens(text: str) -> Iterator[Token]:
    return (_ASCII_TOKEN if text.isascii() else _token()).finditer(text)


def characters(text: str, run: Token) -> Iterator[Token]:
    """The characters of a run."""
    return _character().finditer(text, *run.span())


@lru_cache(maxsize=1)
def _token() -> re.Pattern[str]:
    letters = rf"[^\W_{_UNSPACED}]"
    word = rf"{letters}++(?:[{_marks()}{_JOINERS}]++{letters}*+)*+"
    return re.compile(rf"{word}(?:['’＇](?!\d){word})?|(?P<{RUN}>(?:{_one_character()})++)")


@lru_cache(maxsize=1)
def _character() -> re.Pattern[str]:
    return re.compile(_one_character())


@lru_cache(maxsize=1)
def _one_character() -> str:
    return rf"(?=[^\W_])[{_UNSPACED}][{_marks()}{_JOINERS}{_HALF_WIDTH_MARKS}]*+"


@lru_cache(maxsize=1)
def _marks() -> str:
    """Ranges of all combining marks."""
    ranges: list[tuple[int, int]] = []
    for point in range(0x300, min(0x20000, sys.maxunicode)):
        if unicodedata.category(chr(point)).startswith("M"):
            if ranges and ranges[-1][1] == point - 1:
                ranges[-1] = (ranges[-1][0], point)
            else:
                ranges.append((point, point))
    return "".join(rf"\U{first:08x}-\U{last:08x}" for first, last in ranges)
