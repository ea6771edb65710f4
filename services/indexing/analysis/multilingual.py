"""The present analyzer: words of all languages as they are written and by their stems, and unspaced scripts by pairs of
characters.

- A word gives two terms: its folded form, and its stem in the language of the text. A query's word gives its folded
  form and its stems in every language of its script, each in its own name space, so that a text is always searched with
  its own language's stemmer, whatever the query's. Exact words count `_EXACT`, words of the same stem `_STEM`.
- Function words are kept in texts, and left out of queries that have other words.
- Runs of characters (`tokenizer`) give each character and each two neighbours, as a query does, where a single one
  only counts by itself.

A chunk's weight for a term is tf (k + 1) / (tf + k (1 - b + b length / average)) (Robertson and Zaragoza, 2009; k 1.2,
b 0.75), with lengths in characters; a query's is multiplied by how often the term occurs in it.

Bounded: a query counts by its first `MAX_WORDS` different words, and by the languages it is likely in where it has so
many of them that all would give more than `_MAX_STEMS` terms.
"""

import re
import zlib
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from services.indexing.analysis import languages, tokenizer
from services.indexing.analysis.analyzer import QueryTerm, Span, Terms
from services.indexing.analysis.folding import folded
from services.indexing.analysis.tokenizer import MAX_WORD, RUN

MAX_WORDS: Final = 64
_MAX_STEMS: Final = 128
_EXACT: Final = 0.3
_STEM: Final = 0.7
_K: Final = 1.2
_B: Final = 0.75
_REMEMBERED: Final = 1 << 14
_LONGEST_REMEMBERED: Final = 32
_TOKENS_BETWEEN_YIELDS: Final = 100
# What French, Italian and Catalan write before an apostrophe, at the start of the next word.
_ELIDED: Final = frozenset(
    [
        *("l", "d", "j", "m", "t", "s", "n", "c", "qu", "jusqu", "lorsqu", "puisqu", "quoiqu", "un", "all", "dell"),
        *("nell", "sull", "dall", "quest", "sant"),
    ]
)


Term = tuple[str, str]
"""A name space, which is a language where there are stems in it, and a text."""

_APOSTROPHE: Final = re.compile("['’＇]")
_MAX_CHARACTER: Final = 8
_WORD: Final = ""
_CHARACTERS: Final = "*"


class _Word(NamedTuple):
    """A word: folded; as it is stemmed; its script, if that has stems."""

    folded: str
    written: str
    script: str | None


class Multilingual:
    name: Final = "multilingual-1"

    def of_chunk(self, text: str, context: str = "", *, average_length: float) -> Terms:
        words, characters = _counted(text)
        language = languages.of_text({word.folded: count for word, count in words.items()}, text)
        counts = Counter[int]()
        for found, grams in ((words, characters), _counted(context)):
            for word, count in found.items():
                for term in _ids_of(word, language.get(word.script)):
                    counts[term] += count
            for gram, count in grams.items():
                counts[_id((_CHARACTERS, gram))] += count
        damping = _K * (1 - _B + _B * (len(text) + len(context)) / average_length)
        return Terms(list(counts), [count * (_K + 1) / (count + damping) for count in counts.values()])

    def of_query(self, text: str) -> Terms:
        weights = _weights(text)
        return Terms([_id(term) for term in weights], list(weights.values()))

    def terms_of_query(self, text: str) -> list[QueryTerm]:
        return [
            QueryTerm(term, None if space in (_WORD, _CHARACTERS) else space, weight)
            for (space, term), weight in _weights(text).items()
        ]

    def matcher(self, query: str) -> "_Matcher":
        return _Matcher(_weights(query).keys())


def content_words(text: str) -> frozenset[int]:
    """What a text is about, to compare it with others of its language: the ids of its words' stems, and of pairs of
    characters in unspaced scripts. Without function words, unless there is nothing else."""
    words, characters = _counted(text)
    language = languages.of_text({word.folded: count for word, count in words.items()}, text)
    telling = [word for word in words if not _is_function_word(word, language.get(word.script))]
    stems = {_ids_of(word, language.get(word.script))[-1] for word in telling or words}
    return frozenset(stems | {_id((_CHARACTERS, gram)) for gram in characters if len(gram) > 1})


def _is_function_word(word: _Word, language: str | None) -> bool:
    return language is not None and languages.is_function_word(word.folded, language)


class _Matcher:
    def __init__(self, terms: AbstractSet[Term]) -> None:
        self._terms = terms
        self._ids = frozenset(map(_id, terms))

    @property
    def matches_anything(self) -> bool:
        return bool(self._terms)

    def spans(self, text: str) -> Generator[None, None, list[Span]]:
        found: list[Span] = []
        places: dict[str, list[Span]] = {}
        for number, token in enumerate(tokenizer.tokens(text), start=1):
            if token.lastgroup == RUN:
                found += yield from self._in_run(text, token)
            else:
                places.setdefault(token.group(), []).append(token.span())
            if number % _TOKENS_BETWEEN_YIELDS == 0:
                yield
        words = {written: _word(written) for written in places}
        yield
        language = languages.of_text({word.folded: len(places[written]) for written, word in words.items()}, text)
        yield
        for written, word in words.items():
            if not self._ids.isdisjoint(_ids_of(word, language.get(word.script))):
                found += places[written]
        return sorted(found)

    def _in_run(self, text: str, run: tokenizer.Token) -> Generator[None, None, list[Span]]:
        found: list[Span] = []
        before, start = "", 0
        for number, character in enumerate(tokenizer.characters(text, run), start=1):
            here = _character(character.group())
            if before and (_CHARACTERS, before + here) in self._terms:
                found.append((start, character.end()))
            elif (_CHARACTERS, here) in self._terms:
                found.append(character.span())
            before, start = here, character.start()
            if number % _TOKENS_BETWEEN_YIELDS == 0:
                yield
        return found


def _counted(text: str) -> tuple[Counter[_Word], Counter[str]]:
    """The words of a text; its characters and pairs of them, where they are in runs."""
    written, grams = Counter[str](), Counter[str]()
    for token in tokenizer.tokens(text):
        if token.lastgroup == RUN:
            characters = _characters(text, token)
            grams.update(characters)
            grams.update(_pairs(characters))
        else:
            written[token.group()] += 1
    words = Counter[_Word]()
    for word, count in written.items():
        words[_word(word)] += count
    return words, grams


def _terms(word: _Word, language: str | None) -> Iterator[Term]:
    """What a word of a text in this language is found by."""
    yield _WORD, word.folded
    if language is not None:
        yield from _stems(word, (language,))


@lru_cache(_REMEMBERED)
def _ids_of(word: _Word, language: str | None) -> tuple[int, ...]:
    return tuple(map(_id, _terms(word, language)))


def _stems(word: _Word, candidates: Sequence[str]) -> Iterator[Term]:
    """Its stems in languages of its script, without those in which it is a function word."""
    for language in candidates:
        if not languages.is_function_word(word.folded, language):
            yield language, languages.stem(word.written, language)


def _weights(query: str) -> dict[Term, float]:
    """The terms of a query."""
    words, grams = _of_query(query)
    # What somebody writes with a capital is a name, unless it begins the query: `The Who`, `IT support`.
    plain = [word for number, word in enumerate(words) if _is_plain(word.written, first=number == 0) or query.isupper()]
    function_words = languages.function_words_of(word.folded for word in plain)
    left_out = {word for word in plain if word.folded in function_words}
    telling = {word: count for word, count in words.items() if word not in left_out}
    if not telling and not grams:
        telling = dict(words)
    weights: dict[Term, float] = {(_CHARACTERS, gram): float(count) for gram, count in grams.items()}
    likely = languages.by_likelihood(word.folded for word in words)
    for word, count in telling.items():
        candidates = likely[word.script][: _MAX_STEMS // len(telling)] if word.script else ()
        stems = list(_stems(word, candidates))
        for term, weight in ((_WORD, word.folded), _EXACT if stems else 1.0), *((stem, _STEM) for stem in stems):
            weights[term] = weights.get(term, 0.0) + count * weight
    return weights


def _is_plain(word: str, *, first: bool) -> bool:
    return word == word.lower() or (first and word[1:] == word[1:].lower())


def _of_query(query: str) -> tuple[Counter[_Word], Counter[str]]:
    """Its words, and its pairs of characters, or single ones that stand alone."""
    words, grams = Counter[_Word](), Counter[str]()
    for token in tokenizer.tokens(query):
        if token.lastgroup == RUN:
            characters = _characters(query, token)
            wanted = _pairs(characters) or characters
            grams.update(gram for gram in wanted if gram in grams or len(grams) < MAX_WORDS)
        else:
            word = _word(token.group())
            if word in words or len(words) < MAX_WORDS:
                words[word] += 1
    return words, grams


def _characters(text: str, run: tokenizer.Token) -> list[str]:
    return [_character(found.group()) for found in tokenizer.characters(text, run)]


def _pairs(characters: Sequence[str]) -> list[str]:
    return [first + second for first, second in pairwise(characters)]


def _word(text: str) -> _Word:
    return _remembered_word(text) if len(text) <= _LONGEST_REMEMBERED else _word_of(text[:MAX_WORD])


def _word_of(text: str) -> _Word:
    written = _without_apostrophe(text)
    plain = folded(written) or written
    return _Word(plain, written, languages.script_of(plain))


_remembered_word: Final = lru_cache(_REMEMBERED)(_word_of)


def _without_apostrophe(text: str) -> str:
    """`crane's` is `crane`, `l'eau` is `eau`, `don't` is `dont`."""
    parts = _APOSTROPHE.split(text, maxsplit=1)
    if len(parts) == 1:
        return text
    first, second = parts
    if second.lower() == "s":
        return first
    return second if folded(first) in _ELIDED else first + second


def _character(text: str) -> str:
    """A character as it is compared: as words are, but with the marks that its script needs."""
    return text if "\u4e00" <= text <= "\u9fff" else folded(text[:_MAX_CHARACTER])


def _id(term: Term) -> int:
    return zlib.crc32(f"{Multilingual.name}\0{term[0]}\0{term[1]}".encode(errors="replace"))
