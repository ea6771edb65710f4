import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from services.indexing.vectors import metadata_terms
from services.indexing.vectors.errors import InvalidPoint

scalars = st.one_of(
    st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=400)
)


@given(scalars, scalars)
def test_facts_are_equal_exactly_when_values_are(left: str | float | bool, right: str | float | bool) -> None:
    same = left == right and isinstance(left, bool) == isinstance(right, bool)

    assert (metadata_terms.equality("a", left) == metadata_terms.equality("a", right)) == same


def test_numbers_compare_by_value_and_never_with_text_or_truth() -> None:
    one = [metadata_terms.equality("a", value) for value in (1, 1.0, 10**0)]
    others = [metadata_terms.equality("a", value) for value in (True, "1", 1.5, -1, 2)]

    assert len(set(one)) == 1
    assert len({one[0], *others}) == 6
    assert metadata_terms.equality("a", 0.0) == metadata_terms.equality("a", -0.0)
    assert metadata_terms.equality("a", 2**60 + 1) != metadata_terms.equality("a", float(2**60))


def test_a_long_text_keeps_its_prefix_and_its_identity() -> None:
    long, longer = "x" * 256, "x" * 257

    assert metadata_terms.equality("a", long).startswith(metadata_terms.text_prefix("a", "x" * 255))
    assert len({metadata_terms.equality("a", value) for value in (long, longer, "x" * 255)}) == 3
    assert len(metadata_terms.equality("a", "x" * 100_000)) < 400


def test_every_level_of_metadata_exists_and_empty_things_do_not() -> None:
    found = metadata_terms.of_document({"a": {"b": [{"c": 1}, {"c": 2}]}, "n": None, "l": [], "o": {}, "e": ""})

    assert {fact for fact in found.facts if fact.endswith("\x00e")} == {
        metadata_terms.existence(path) for path in ("a", "a.b", "a.b.c", "e")
    }
    assert found.numbers == {"a.b.c": [1.0, 2.0]}


def test_dates_are_kept_in_utc_for_intervals_and_as_text_for_equality() -> None:
    found = metadata_terms.of_document({"when": "2024-05-01T02:00:00+02:00", "year": "2024"})

    assert found.instants == {"when": ["2024-05-01T00:00:00+00:00"]}
    assert metadata_terms.equality("when", "2024-05-01T02:00:00+02:00") in found.facts


def test_text_that_no_store_accepts_is_made_harmless() -> None:
    found = metadata_terms.of_document({"a": "x\x00sy", "b": "\ud800", "c\x00sforged": "z"})

    assert metadata_terms.equality("a", "x\ufffdsy") in found.facts
    assert metadata_terms.equality("b", "?") in found.facts
    assert not [fact for fact in found.facts if fact.startswith("c")]


def nested(levels: int) -> JsonValue:
    value: JsonValue = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "value", [nested(40), list(range(20_000)), 10**400, float("inf"), float("nan")], ids=lambda value: str(value)[:20]
)
def test_metadata_that_is_too_much_is_refused(value: JsonValue) -> None:
    with pytest.raises(InvalidPoint):
        metadata_terms.of_document({"a": value})


def test_what_every_chunk_carries_is_bounded_whatever_the_metadata() -> None:
    small = metadata_terms.of_document({"lang": "en", "year": 2020})
    large = metadata_terms.of_document({f"key {number}": f"value {number}" for number in range(400)} | {"year": 2020})

    assert small.of_chunk(0) == small.of_chunk(7)
    assert large.of_chunk(0)["facts"] == sorted(large.facts | {metadata_terms.FIRST})
    assert large.of_chunk(1) == {"facts": [metadata_terms.AWAY], "numbers": {}, "instants": {}}


@given(st.dictionaries(st.text(max_size=3), scalars))
def test_no_metadata_makes_a_mark(metadata: dict[str, JsonValue]) -> None:
    assert not metadata_terms.of_document(metadata).facts & {metadata_terms.FIRST, metadata_terms.AWAY}
