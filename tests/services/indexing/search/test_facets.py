"""Counting metadata values over documents."""

from typing import Any

from services.indexing.documents.models import Document
from services.indexing.search import facets


def counted(field: str, *metadata: dict[str, Any], content_type: str = "text/plain") -> list[tuple[Any, int]]:
    documents = [Document(attributes=attributes, content_type=content_type) for attributes in metadata]
    return [(facet.value, facet.count) for facet in facets.count(documents, [field])[field]]


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


def test_content_types_are_counted_too_and_values_are_bounded() -> None:
    assert counted("content_type", {}, {}) == [("text/plain", 2)]
    assert len(counted("metadata.n", *({"n": number} for number in range(80)))) == facets.MAX_VALUES
