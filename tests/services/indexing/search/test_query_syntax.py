"""Phrases and exclusions in a query."""

import time

import pytest

from services.indexing.search.query_syntax import MAX_CONDITIONS, parsed


def matches(query: str, text: str) -> bool:
    matching = parsed(query).matching([text])
    while True:
        try:
            next(matching)
        except StopIteration as done:
            (found,) = done.value
            return bool(found)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ('"harbour wall" granite', " harbour wall  granite"),
        ("granite -sand", "granite "),
        ('stone -"sea wall" old', "stone  old"),
        ("die „Neue Welt“", "die  Neue Welt "),
        ("« mur du port »", "  mur du port  "),
    ],
)
def test_what_is_ranked_by_leaves_the_operators_out(query: str, text: str) -> None:
    assert parsed(query).text == text
    assert parsed(query).has_conditions


@pytest.mark.parametrize(
    "query",
    ["state-of-the-art", "a - b", "-5 degrees", 'a 12" pipe', "-sand", '-"sea wall"', '""', '"?!"', "--help", "a -_b"],
)
def test_what_is_no_operator_stays_as_it_is(query: str) -> None:
    assert parsed(query).text == query
    assert not parsed(query).has_conditions


@pytest.mark.parametrize(
    ("query", "text", "expected"),
    [
        ('"harbour wall"', "The Harbour-Wall of 1887", True),
        ('"harbour wall"', "a wall by the harbour", False),
        ('"harbour wall"', "harbour walls", False),
        ('"to be"', "to beat", False),
        ('"café au lait"', "un CAFE, au lait", True),
        ('"東京都"', "日本の東京都", True),
        ('"東京都"', "東京の都", False),
        ("wall -sand", "a wall of sand", False),
        ("wall -sand", "a wall of sandstone", True),
        ('wall -"red sand"', "a wall of sand, red", True),
        ('"the wall" "of sand"', "of sand is the wall", True),
        ('"the wall" "of sand"', "the wall", False),
    ],
)
def test_a_passage_fulfils_all_conditions_or_is_not_found(query: str, text: str, expected: bool) -> None:
    assert matches(query, text) is expected


def test_conditions_are_bounded() -> None:
    query = parsed("wall " + " ".join(f"-sand{number}" for number in range(100)))
    assert len(query.excluded) == MAX_CONDITIONS
    for hostile in ('"' * 2000, '"a' * 1000, "-a " * 666, "“" * 2000, "-" * 2000, "« " * 1000):
        began = time.process_time()
        parsed(hostile)
        assert time.process_time() - began < 0.1
