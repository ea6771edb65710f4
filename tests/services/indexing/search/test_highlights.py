"""The words that keyword search finds a passage by are marked in it."""

from collections.abc import Generator

import pytest

from services.indexing.analysis.analyzer import Span
from services.indexing.search.highlights import MAX_HIGHLIGHTS, MAX_TEXT, Highlighter


def spans(text: str, query: str) -> list[Span]:
    return steps(Highlighter(query).marking(text))[0]


def steps(marking: Generator[None, None, list[Span]]) -> tuple[list[Span], int]:
    """The marks, and in how many steps they were found."""
    number = 0
    while True:
        try:
            next(marking)
        except StopIteration as done:
            return done.value, number
        number += 1


def marked(text: str, query: str) -> list[str]:
    return [text[start:end] for start, end in spans(text, query)]


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("Indexing keeps an index of indexed files.", "index file", ["Indexing", "index", "indexed", "files"]),
        ("He stopped; stopping is what he does.", "stop", ["stopped", "stopping"]),
        ("Parties, a party", "party", ["Parties", "party"]),
        ("Café and CAFE", "café", ["Café", "CAFE"]),
        ("Die Straße, DIE STRASSE", "strasse", ["Straße", "STRASSE"]),
        ("it is not noted in the notes", "note", ["noted", "notes"]),
        ("the wine of a winner", "winner", ["winner"]),
        ("The harbour's wall", "harbour", ["harbour's"]),
        ("The harbour’s wall", "harbours", ["harbour’s"]),
        ("ΟΔΟΣ και οδός", "οδός", ["ΟΔΟΣ", "οδός"]),
        ("granite2 and granite", "granite", ["granite"]),
        ("東京都は日本の首都", "東京", ["東京"]),
        ("what is it", "what is the granite", []),
        ("to be or not to be", "to be", ["to", "be", "to", "be"]),
        ("nothing here", "!!!", []),
        ("👩‍🚀 astronaut 👩‍🚀 astronauts", "astronaut", ["astronaut", "astronauts"]),
        ("ne" * 3, "nene", []),
        ("re\u0301sume\u0301 and résumé", "résumé", ["re\u0301sume\u0301", "résumé"]),
        ("क्षेत्र का", "क्षेत्र", ["क्षेत्र"]),
        ("the generalization of generalities", "general", ["generalization", "generalities"]),
    ],
)
def test_words_are_marked(text: str, query: str, expected: list[str]) -> None:
    assert marked(text, query) == expected


def test_overlapping_finds_are_joined_and_none_is_too_many() -> None:
    assert spans("日本日本", "日本 日本日") == [(0, 4)]
    assert len(spans("word " * 200, "word")) == MAX_HIGHLIGHTS


def test_offsets_count_characters_of_the_text() -> None:
    text = "𝔘nicode before the ﬁnding"
    ((start, end),) = spans(text, "finding")
    assert text[start:end] == "ﬁnding"


def test_a_word_repeated_costs_what_it_costs_once() -> None:
    text = "一 " * (MAX_TEXT // 2)
    assert steps(Highlighter("一 " * 1000).marking(text)) == steps(Highlighter("一").marking(text))


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    assert spans("x" * MAX_TEXT + " word", "word") == []
    _, number = steps(Highlighter("other").marking("word " * 1_000_000))
    assert number <= MAX_TEXT
