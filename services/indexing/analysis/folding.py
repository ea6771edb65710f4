"""Words in a form in which those that users take for the same are equal.

Unicode's compatibility case folding (NFKC_Casefold, UAX 44), then without what is written or omitted at will: accents
of Latin, Greek and Cyrillic letters, vowel signs of Arabic and Hebrew, tatweel, nukta, joiners, soft hyphens. Letters
that Unicode does not decompose are written as their usual substitutes (`ø` as `o`, `ł` as `l`), forms of alef and yeh
as one, final letters of Hebrew as the others, and digits of all scripts as ASCII. Vowel signs of Indian scripts stay:
without them words mean something else.
"""

import sys
import unicodedata
from functools import lru_cache
from typing import Final

_OMITTED: Final = (
    (0x00AD, 0x00AD),  # soft hyphen
    (0x02B9, 0x02BC),  # apostrophes that are letters
    (0x0300, 0x036F),
    (0x0483, 0x0487),
    (0x0591, 0x05BD),
    (0x05BF, 0x05C7),
    (0x0610, 0x061A),
    (0x0640, 0x0640),  # tatweel
    (0x064B, 0x065F),
    (0x0670, 0x0670),
    (0x06D6, 0x06ED),
    (0x093C, 0x093C),  # nukta
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x200B, 0x200F),  # joiners and directions
    (0x20D0, 0x20FF),
    (0xFE00, 0xFE0F),
    (0xFE20, 0xFE2F),
)
_SUBSTITUTES: Final = {
    **dict(zip("øłđðıħŧ", "olddiht", strict=True)),
    **{"æ": "ae", "œ": "oe", "þ": "th"},
    **dict(zip("ٱىیکة", "اييكه", strict=True)),
    **dict(zip("ךםןףץ", "כמנפצ", strict=True)),
    "ँ": "ं",  # chandrabindu, as anusvara
}  # fmt: skip


def folded(word: str) -> str:
    """A word as it is compared."""
    if word.isascii():
        return word.lower()
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", word).casefold())
    return unicodedata.normalize("NFC", decomposed.translate(_table()))


@lru_cache(maxsize=1)
def _table() -> dict[int, str]:
    table = {ord(letter): substitute for letter, substitute in _SUBSTITUTES.items()}
    table.update((point, "") for first, last in _OMITTED for point in range(first, last + 1))
    table.update(
        (point, str(unicodedata.decimal(chr(point))))
        for point in range(0x660, min(0x20000, sys.maxunicode))
        if chr(point).isdecimal()
    )
    return table
