"""Words of a query are found in a text whatever their ending, case or accents."""

import pytest

from services.indexing.search.highlights import MAX_HIGHLIGHTS, MAX_TEXT, Highlighter, Span
from services.indexing.vectors.keywords import MAX_TERMS, KeywordModel

MODEL = KeywordModel()


def spans(text: str, query: str) -> list[Span]:
    return steps(text, query)[0]


def steps(text: str, query: str) -> tuple[list[Span], int]:
    """The marks, and in how many steps they were found."""
    marking, number = Highlighter(query, MODEL).marking(text), 0
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


def test_what_keyword_search_finds_by_a_word_shows_that_word() -> None:
    """Both take a text for the same terms: pairs that a light stem alone would miss are among them."""
    pairs = [("relational", "relate"), ("dying", "die"), ("skies", "sky"), ("x²", "x²"), ("Ⓐb", "ⓐB"), ("ﬂy", "fly")]
    for text, query in pairs:
        theirs = MODEL.of_query(query)
        assert theirs is not None
        found = not set(MODEL.of_chunk(text).indices).isdisjoint(theirs.indices)
        assert not found or marked(text, query) == [text], (text, query)


def test_a_word_repeated_costs_what_it_costs_once() -> None:
    text = "一 " * (MAX_TEXT // 2)
    assert steps(text, "一 " * 1000) == steps(text, "一")


def test_words_of_a_query_are_bounded() -> None:
    many = [f"word{number}" for number in range(MAX_TERMS + 10)]
    assert marked(" ".join(many[:40]), " ".join(many)) == many[:40]
    assert marked(" ".join(many[MAX_TERMS:]), " ".join(many)) == []
    terms = MODEL.of_query(" ".join(many))
    assert terms is not None
    assert set(terms.indices) == {term for word in many[:MAX_TERMS] for term in MODEL.terms_of(word)}


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    text = "x" * MAX_TEXT + " word"
    assert spans(text, "word") == []
    _, number = steps("word " * 1_000_000, "other")
    assert number <= MAX_TEXT
