"""Detects the encoding of text that declares none, or declares a wrong one.

chardet ranks the encodings by statistics; the first in which the characters make sense is taken. What makes sense is
decided by a few rules: no alphabets mixed within a word, no signs or capitals in the middle of one. Time is linear:
only a sample is looked at.
"""

import re
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

import chardet
from chardet import EncodingEra

from services.indexing.pipeline.formats.encoding_labels import superset

# Those that texts are still found in; mainframes' and the rarest turn short texts into nonsense.
_ERAS = EncodingEra.ALL & ~EncodingEra.MAINFRAME
_NEVER_GUESSED = ["utf-7", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
_NEVER_GUESSED += [
    "hp-roman8",
    "cp1006",
    "cp856",
    "cp864",
    "mac-greek",
    "mac-iceland",
    "mac-turkish",
    "ptcp154",
    "koi8-t",
    "cp720",
]
_CANDIDATES = 5
# So few characters are weak evidence.
_FEW = 12
_USUAL = frozenset(
    {"cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874", "iso8859_2", "koi8_r"}
    | {"big5hkscs", "cp932", "cp949", "euc_jp", "gb18030"}
)
_RARE = 0.7
# First bytes of kana and of common characters and syllables.
_COMMON_LEADS = {
    "cp932": range(0x81, 0x98),
    "cp949": range(0xB0, 0xC9),
    "euc_jp": range(0xA1, 0xD0),
    "gb18030": (0xA1, 0xA3, *range(0xB0, 0xD8)),
    "big5hkscs": range(0xA1, 0xC7),
}
_WESTERN_SIGNS = frozenset(sign.encode("cp1252") for sign in "€£¥§©®°²³µ·¹¼½¾×÷«»“”‘’–—…•™¿¡\xa0")
_SAMPLE_BYTES = 64 * 1024
_SEARCHED_BYTES = 1024 * 1024
_HIGH_BYTE = re.compile(rb"[\x80-\xff]")
_HIGH_BYTES = re.compile(rb"[\x80-\xff]+")
# Ends of lines, sentences and tags: no encoding has a part of a character there.
_PIECE = re.compile(rb"[\r\n]+|(?<=[.!?;:>])[ \t]+")
_CONTROLS = bytes(byte for byte in range(0x20) if byte not in b"\t\n\r") + b"\x7f"

# The most of the characters beyond ASCII that may stand at odd places: damage, not another encoding.
_ODD_SHARE = 0.1
_MEASURED = 4_000
_TOKEN = re.compile("[A-Za-z\x80-\U0010ffff]+")
_LATIN_RUN = re.compile("[\xc0-\xd6\xd8-\xf6\xf8-\u02af]{5,}")
_CJK_IN_WORD = re.compile(
    "(?<=[a-z])[\u2e80-\u9fff\uac00-\ud7af\uff61-\uff9f](?![\u2e80-\u9fff\uac00-\ud7af\uff61-\uff9f])"
)
_BETWEEN_LETTERS = frozenset("\u2019\u2018\u02bc\xb7\xad\u2010\u2011\u2012\u2013\u2014\u2015\u2026")
_ALPHABETS = frozenset({"LATIN", "CYRILLIC", "GREEK", "HEBREW", "ARABIC", "THAI", "ARMENIAN", "GEORGIAN"})


def guessed_codec(data: bytes) -> str:
    """The most likely encoding of bytes that are not UTF-8."""
    sample = telling_part(data).translate(None, _CONTROLS)
    if _has_only_western_signs(sample):
        return "cp1252"
    candidates = dict.fromkeys([*_by_statistics(sample), *_by_common_characters(sample)])
    plausible = (candidate for candidate in candidates if is_plausible(sample.decode(candidate, errors="replace")))
    return next(plausible, None) or min(
        candidates,
        key=lambda candidate: oddities(sample.decode(candidate, errors="replace")[:_MEASURED]),
        default="cp1252",
    )


def _by_statistics(sample: bytes) -> list[str]:
    results = chardet.detect_all(
        sample,
        ignore_threshold=True,
        encoding_era=_ERAS,
        max_bytes=_SAMPLE_BYTES,
        compat_names=False,
        exclude_encodings=_NEVER_GUESSED,
    )
    scores: dict[str, float] = {}
    weights = _weights(len(_HIGH_BYTE.findall(sample[:1000])))
    for result in results:
        if result["encoding"]:
            name = superset(result["encoding"])
            scores[name] = max(scores.get(name, 0.0), weights(name) * result["confidence"])
    return sorted(scores, key=lambda name: -scores[name])[:_CANDIDATES]


def _weights(beyond_ascii: int) -> Callable[[str], float]:
    """Few characters are weak evidence: then it counts how many texts there are in an encoding."""
    if beyond_ascii >= _FEW:
        return lambda name: 1.0
    western = 1.0 + 0.7 / max(beyond_ascii, 1)
    return lambda name: western if name == "cp1252" else 1.0 if name in _USUAL else _RARE


def _by_common_characters(sample: bytes) -> list[str]:
    """Encodings of two bytes a character in which nearly all are common; statistics know no texts of few words."""
    found = []
    for name, leads in _COMMON_LEADS.items():
        with suppress(UnicodeDecodeError):
            beyond = [character for character in sample[:2000].decode(name) if character > "\x7f"]
            common = sum(character.encode(name)[0] in leads for character in beyond)
            if common > 0.8 * len(beyond):
                found.append(name)
    return found


def _has_only_western_signs(sample: bytes) -> bool:
    """Currencies, degrees, quotation marks: as good as never a letter of another alphabet that stands alone."""
    found = _HIGH_BYTES.findall(sample[:2000])
    return bool(found) and all(run in _WESTERN_SIGNS for run in found)


def telling_part(data: bytes) -> bytes:
    """The lines and sentences near the first byte beyond ASCII that have such bytes: the others say nothing."""
    first = _HIGH_BYTE.search(data)
    if first is None:
        return data[:_SAMPLE_BYTES]
    begin = max(data.rfind(b"\n", 0, first.start()) + 1, first.start() - 200)
    pieces, length = [], 0
    for piece in _PIECE.split(data[begin : begin + _SEARCHED_BYTES]):
        if not piece.isascii():
            pieces.append(piece)
            length += len(piece)
            if length > _SAMPLE_BYTES:
                break
    return b"\n".join(pieces)[:_SAMPLE_BYTES]


def is_plausible(text: str) -> bool:
    """Whether the characters beyond ASCII make words, as far as a rule can tell."""
    measured = text[:_MEASURED]
    beyond = len(measured) - len(measured.encode("ascii", errors="ignore"))
    return oddities(measured) <= _ODD_SHARE * beyond


def oddities(text: str) -> int:
    """How many characters beyond ASCII stand where no writer puts them, which is what a wrong encoding does."""
    return sum(_oddities_of(token) for token in _TOKEN.findall(text) if not token.isascii())


def _oddities_of(token: str) -> int:
    kinds = [_kind(character) for character in token]
    odd = sum(kind == "?" for kind in kinds)
    odd += sum(len(run) for run in _LATIN_RUN.findall(token)) + sum(len(run) for run in _CJK_IN_WORD.findall(token))
    for at in range(1, len(token)):
        before, here = kinds[at - 1], kinds[at]
        if before == "l" and here == "u":
            odd += not (token[at - 1].isascii() and token[at].isascii())
        elif here == "s" and before in "lu" and at + 1 < len(token) and kinds[at + 1] in "lu":
            odd += 1
    alphabets = {_alphabet(character) for character in token} & _ALPHABETS
    if len(alphabets) > 1:
        odd += sum(character > "\x7f" for character in token)
    return odd


@lru_cache(maxsize=4096)
def _kind(character: str) -> str:
    """l and u: lower and upper case; o: other letters and marks; s: signs; ?: what no text has."""
    category = unicodedata.category(character)
    if category in ("Ll", "Lu"):
        return category[1]
    if category in ("Cc", "Cn", "Co", "Cs") or character == "\ufffd":
        return "?"
    if category[0] in "LM" or character in _BETWEEN_LETTERS or category in ("Zs", "Cf", "Nd"):
        return "o"
    return "s"


@lru_cache(maxsize=4096)
def _alphabet(character: str) -> str:
    if character.isascii():
        return "LATIN"
    return unicodedata.name(character, "").partition(" ")[0] if character.isalpha() else ""
