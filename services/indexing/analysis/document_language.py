"""The language that most of a document's text is in.

Told by function words where a script's languages have them, otherwise by the statistics of letters; nothing is said
where there is too little of either. Bounded: the beginning of a document decides, `_READ` characters of it.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Final

from services.indexing.analysis import languages, tokenizer
from services.indexing.analysis.folding import folded
from services.indexing.analysis.tokenizer import MAX_WORD, RUN

_READ: Final = 20_000
# Scripts of several languages of which `languages` knows one.
_MORE: Final = {"cyrillic": ("ru", "uk", "bg", "sr", "mk", "be"), "devanagari": ("hi", "mr", "ne")}
_KANA: Final = "ja"
_HAN: Final = "zh"
# The last code points of blocks in unspaced scripts, and whose they are.
_BLOCKS: Final = (
    *((0x0E7F, "th"), (0x0EFF, "lo"), (0x109F, "my"), (0x11FF, "ko"), (0x17FF, "km"), (0x3007, _HAN), (0x30FF, _KANA)),
    *((0x318F, "ko"), (0x31FF, _KANA), (0x9FFF, _HAN), (0xA97F, "ko"), (0xD7FF, "ko"), (0xFAFF, _HAN)),
    *((0xFF9F, _KANA), (0xFFDC, "ko"), (0x323AF, _HAN)),
)
# Japanese has kana between its Han characters; Chinese has none but in names.
_KANA_SHARE: Final = 0.05


def of_document(passages: Iterable[str]) -> str | None:
    """ISO 639-1 code, or None if too little tells. `passages`: its text in order, of which only some is read."""
    read: list[str] = []
    left = _READ
    for passage in passages:
        read.append(passage[:left])
        left -= len(passage)
        if left <= 0:
            break
    return _of_text("\n".join(read))


def _of_text(text: str) -> str | None:
    words, unspaced = _counted(text)
    letters = Counter[str | None]()
    for word, count in words.items():
        letters[languages.script_of(word)] += count * len(word)
    script, most = max(letters.items(), key=lambda item: item[1], default=(None, 0))
    # A character of an unspaced script says about as much as three letters.
    if 3 * unspaced.total() > most:
        return _of_unspaced(unspaced)
    if script is None:
        return None
    if script in _MORE:
        return languages.by_letters(_MORE[script], text)
    return languages.told(languages.LANGUAGES[script], words, text)


def _of_unspaced(characters: Counter[str]) -> str:
    if characters[_KANA] > _KANA_SHARE * (characters[_KANA] + characters[_HAN]):
        characters[_KANA] += characters.pop(_HAN, 0)
    return max(characters, key=lambda language: characters[language])


def _counted(text: str) -> tuple[Counter[str], Counter[str]]:
    """Its folded words, and its characters in unspaced scripts by their language."""
    words, unspaced = Counter[str](), Counter[str]()
    for token in tokenizer.tokens(unicodedata.normalize("NFC", text)):
        if token.lastgroup == RUN:
            unspaced.update(map(_language_of, token.group()))
        else:
            words[token.group()[:MAX_WORD]] += 1
    plain = Counter[str]()
    for word, count in words.items():
        if found := folded(word):
            plain[found] += count
    return plain, unspaced


def _language_of(character: str) -> str:
    return next((language for last, language in _BLOCKS if ord(character) <= last), _HAN)
