"""Counting metadata values over documents."""

import json
import uuid
from collections.abc import Sequence
from typing import Any

from services.indexing.documents.repository import Described
from services.indexing.search import facets


def count(fields: Sequence[str], *metadata: dict[str, Any]) -> tuple[facets.Facets, int]:
    """The facets, and in how many steps they were counted."""
    documents = [Described(uuid.uuid4(), 1, "text/plain", json.dumps(attributes)) for attributes in metadata]
    counting, steps = facets.counting(documents, fields), 0
    while True:
        try:
            next(counting)
        except StopIteration as done:
            return done.value, steps
        steps += 1


def counted(field: str, *metadata: dict[str, Any]) -> list[tuple[Any, int]]:
    answer, _ = count([field], *metadata)
    assert answer.omitted == ()
    return [(facet.value, facet.count) for facet in answer.counts[field]]


def test_the_most_frequent_value_comes_first() -> None:
    assert counted("metadata.lang", {"lang": "fr"}, {"lang": "en"}, {"lang": "en"}, {}) == [("en", 2), ("fr", 1)]


def test_elements_of_lists_count_and_a_document_counts_once() -> None:
    assert counted("metadata.tags", {"tags": ["a", "b", "a"]}, {"tags": ["a"]}) == [("a", 2), ("b", 1)]


def test_nested_fields_are_reached_by_dots_also_through_lists() -> None:
    metadata = {"authors": [{"name": "Ada"}, {"name": "Alan"}], "a.b": {"c": 1}, "deep": {"x": {"y": True}}}
    assert counted("metadata.authors.name", metadata) == [("Ada", 1), ("Alan", 1)]
    assert counted("metadata.a.b.c", metadata) == [(1, 1)]
    assert counted("metadata.deep.x.y", metadata) == [(True, 1)]
    assert counted("metadata.deep", metadata) == []
    assert counted("metadata.deep.x.y.z", metadata) == []


def test_true_and_one_are_two_values() -> None:
    assert counted("metadata.v", {"v": True}, {"v": 1}, {"v": 1}) == [(1, 2), (True, 1)]


def test_texts_that_filters_compare_as_equal_are_one_value() -> None:
    assert counted("metadata.v", {"v": "Zo\u00eb"}, {"v": "Zoe\u0308"}) == [("Zo\u00eb", 2)]


def test_content_types_are_counted_too_and_values_are_bounded() -> None:
    assert counted("content_type", {}, {}) == [("text/plain", 2)]
    most, _ = count(["metadata.n"], *({"n": number} for number in range(80)))
    assert (len(most.counts["metadata.n"]), most.omitted) == (facets.MAX_VALUES, ("values",))


def test_several_fields_are_counted_in_one_walk() -> None:
    metadata = {"rows": [{"a": 1, "b": 2} for _ in range(2_000)]}
    _, alone = count(["metadata.rows.a"], metadata)
    answer, together = count(["metadata.rows.a", "metadata.rows.b", "metadata.rows.a.b", "content_type"], metadata)
    assert {field: len(values) for field, values in answer.counts.items()} == {
        "metadata.rows.a": 1, "metadata.rows.b": 1, "metadata.rows.a.b": 0, "content_type": 1,
    }  # fmt: skip
    assert together <= 2 * alone + 4


def test_equal_fields_are_one() -> None:
    assert count(["metadata.a"] * 10, {"a": 1}) == count(["metadata.a"], {"a": 1})


def test_a_path_of_many_dots_costs_no_more_than_the_keys_there_are() -> None:
    field = "metadata." + "a." * 99 + "a"
    answer, steps = count([field], {"rows": [{} for _ in range(5_000)]})
    assert (answer.counts[field], steps < 20) == ([], True)
    assert counted("metadata.a.b.c", {"a": {"b": {"c": 1}}, "a.b": {"c": 2}, "a.b.c": 3, "a.": {"b.c": 4}}) == [
        (1, 1), (2, 1), (3, 1),
    ]  # fmt: skip


def test_metadata_beyond_the_budget_is_not_counted_and_the_answer_says_so() -> None:
    metadata = [{"lang": "en", "note": "x" * 16_000} for _ in range(100)]
    answer, _ = count(["metadata.lang"], *metadata)
    assert answer.omitted == ("metadata",)
    assert [value.count for value in answer.counts["metadata.lang"]] == [facets.MAX_BYTES // 16_030]


def test_different_values_are_bounded_and_long_texts_are_none() -> None:
    answer, _ = count(["metadata.n"], {"n": list(range(facets.MAX_DISTINCT + 1))})
    assert (answer.omitted, len(answer.counts["metadata.n"])) == (("metadata", "values"), facets.MAX_VALUES)
    assert counted("metadata.v", {"v": ["x" * facets.MAX_VALUE, "y" * (facets.MAX_VALUE + 1)]}) == [
        ("x" * facets.MAX_VALUE, 1)
    ]
