"""Words of a query are found in a text whatever their ending, case or accents."""

import pytest

from services.indexing.search.highlights import MAX_HIGHLIGHTS, spans


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
