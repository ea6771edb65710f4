"""Which language a text is in, and the stems of its words.

The language of a script is the one with the most function words in the text; where there is hardly any (headings,
tables, lists), the statistics of letters decide, and the first language of the script if there is too little even for
those. Stemmers are Snowball's (M. F. Porter, snowballstem.org), but for Arabic and Hebrew.
"""

import threading
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import Stemmer
from resiliparse.parse.lang import detect_fast

from services.indexing.analysis.folding import folded
from services.indexing.analysis.function_words import FUNCTION_WORDS

LATIN: Final = "latin"
LANGUAGES: Final[Mapping[str, Sequence[str]]] = {
    LATIN: (
        *("en", "de", "fr", "es", "it", "pt", "nl", "pl", "sv", "cs", "da", "no", "fi", "hu", "ro", "tr", "ca", "id"),
        *("et", "lt", "ga", "eu"),
    ),
    "cyrillic": ("ru",),
    "greek": ("el",),
    "arabic": ("ar", "fa"),
    "hebrew": ("he",),
    "devanagari": ("hi",),
    "tamil": ("ta",),
    "armenian": ("hy",),
}
"""The languages of each script that have stems, the most likely first."""

_SNOWBALL: Final = {
    **{"en": "english", "de": "german", "fr": "french", "es": "spanish", "it": "italian", "pt": "portuguese"},
    **{"nl": "dutch", "pl": "polish", "sv": "swedish", "cs": "czech", "da": "danish", "no": "norwegian"},
    **{"fi": "finnish", "hu": "hungarian", "ro": "romanian", "tr": "turkish", "ca": "catalan", "id": "indonesian"},
    **{"et": "estonian", "lt": "lithuanian", "ga": "irish", "eu": "basque", "ru": "russian", "el": "greek"},
    **{"fa": "persian", "hi": "hindi", "ta": "tamil", "hy": "armenian"},
}
_SCRIPTS: Final = (
    (0x0041, 0x024F, LATIN),
    (0x0370, 0x03FF, "greek"),
    (0x0400, 0x052F, "cyrillic"),
    (0x0531, 0x0587, "armenian"),
    (0x05D0, 0x05F2, "hebrew"),
    (0x0620, 0x06FF, "arabic"),
    (0x0900, 0x097F, "devanagari"),
    (0x0B80, 0x0BFF, "tamil"),
    (0x1E00, 0x1EFF, LATIN),
    (0x1F00, 0x1FFF, "greek"),
)
_TELLING_WORDS: Final = 2
_TELLING_LETTERS: Final = 80
_READ_LETTERS: Final = 2_000
_REMEMBERED: Final = 1 << 14
_ARABIC_ARTICLES: Final = ("ال", "بال", "كال", "فال", "لل")
_ARABIC_ENDINGS: Final = ("ها", "ان", "ات", "ون", "ين", "يه", "ه", "ي")
# The particles that are written onto a Hebrew word: and, the, in, to, from, that, as.
_HEBREW_PARTICLES: Final = "והבלמשכ"
_HEBREW_ENDINGS: Final = ("ימ", "ות", "יה", "ית", "ה")

# What `İ` leaves in lower case.
_DOT: Final = "\u0307"

_own = threading.local()


def script_of(word: str) -> str | None:
    """The script of a folded word, if its stems are known. Words with digits have none."""
    point = ord(word[0])
    for first, last, script in _SCRIPTS:
        if first <= point <= last:
            return script if word.isalpha() or not any(map(str.isdigit, word)) else None
    return None


def of_text(words: Mapping[str, int], text: str) -> dict[str | None, str]:
    """The language of each script, for a text in which these folded words occur so often."""
    counts = _function_words_in(words)
    return {
        script: _told(languages, counts, text) or max(languages, key=lambda language: counts[language])
        for script, languages in LANGUAGES.items()
    }


def told(languages: Sequence[str], words: Mapping[str, int], text: str) -> str | None:
    """Which of the languages a text is in; None if there is too little to tell by."""
    return _told(languages, _function_words_in(words), text)


def by_letters(languages: Sequence[str], text: str) -> str | None:
    """The same by the statistics of letters alone."""
    if len(text) < _TELLING_LETTERS:
        return None
    found = detect_fast(unicodedata.normalize("NFC", text[:_READ_LETTERS]), langs=list(languages))
    return str(found[0]) if found[0] in languages else None


def _told(languages: Sequence[str], counts: Mapping[str, int], text: str) -> str | None:
    best = max(languages, key=lambda language: counts[language])
    if len(languages) == 1 or counts[best] >= _TELLING_WORDS:
        return best
    return by_letters(languages, text)


def _function_words_in(words: Mapping[str, int]) -> Counter[str]:
    counts = Counter[str]()
    known = _by_word()
    for word, count in words.items():
        if word in known:
            for language in known[word]:
                counts[language] += count
    return counts


def function_words_of(words: Iterable[str]) -> frozenset[str]:
    """The function words of the language, or the languages, in which most of these words are such."""
    counts = Counter(language for word in words for language in _languages_with(word))
    most = max(counts.values(), default=0)
    return frozenset().union(*(FUNCTION_WORDS[language] for language, count in counts.items() if count == most))


def by_likelihood(words: Iterable[str]) -> dict[str, list[str]]:
    """The languages of each script: those with most function words among these first."""
    counts = Counter(language for word in words for language in _languages_with(word))
    return {
        script: sorted(languages, key=lambda language: -counts[language]) for script, languages in LANGUAGES.items()
    }


def is_function_word(word: str, language: str) -> bool:
    return word in FUNCTION_WORDS.get(language, ())


@lru_cache(maxsize=_REMEMBERED)
def stem(word: str, language: str) -> str:
    """The stem of a word, folded."""
    match language:
        case "ar":
            return _arabic(folded(word))
        case "he":
            return _hebrew(folded(word))
    lower = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).casefold()).replace(_DOT, "")
    return folded(_stemmer(language).stemWord(lower)) or folded(word)


def _stemmer(language: str) -> "Stemmer.Stemmer":
    """One for each thread: they hold state while they work."""
    if not hasattr(_own, "stemmers"):
        _own.stemmers = {}
    stemmers: dict[str, Stemmer.Stemmer] = _own.stemmers
    if language not in stemmers:
        stemmers[language] = Stemmer.Stemmer(_SNOWBALL[language], 0)
    return stemmers[language]


def _arabic(word: str) -> str:
    """Light10 (Larkey, Ballesteros and Connell, 2007): without `and`, an article and endings, as long as two letters
    are left, or three after `and`."""
    if word[0] == "و" and len(word) > 3:
        word = word[1:]
    for article in _ARABIC_ARTICLES:
        if word.startswith(article) and len(word) - len(article) >= 2:
            word = word.removeprefix(article)
            break
    for ending in _ARABIC_ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 2:
            word = word.removesuffix(ending)
    return word


def _hebrew(word: str) -> str:
    """Without one ending and then up to three particles, as long as three letters are left."""
    for ending in _HEBREW_ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending)
            break
    for _ in range(3):
        if len(word) > 3 and word[0] in _HEBREW_PARTICLES:
            word = word[1:]
    return word


@lru_cache(maxsize=1)
def _by_word() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for language, words in FUNCTION_WORDS.items():
        for word in words:
            found[word] = (*found.get(word, ()), language)
    return found


def _languages_with(word: str) -> tuple[str, ...]:
    return _by_word().get(word, ())
