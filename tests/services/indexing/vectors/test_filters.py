from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from services.indexing.vectors.filters import (
    MAX_DEPTH,
    MAX_INTERVALS,
    MAX_LISTED,
    MAX_NEGATIONS,
    MAX_NODES,
    AllOf,
    CreatedAtCondition,
    Filter,
    FilterNode,
    MetadataCondition,
    Not,
    parse_instant,
)

FILTERS: TypeAdapter[FilterNode] = TypeAdapter(Filter)
LANG = {"field": "metadata.lang", "eq": "en"}


def test_filters_combine() -> None:
    node = FILTERS.validate_python({"all": [LANG, {"any": [LANG, {"not": LANG}]}]})

    assert isinstance(node, AllOf)
    assert node.all[0] == MetadataCondition(field="metadata.lang", eq="en")


def test_a_filter_is_read_from_json_and_described_by_a_schema() -> None:
    class Search(BaseModel):
        filter: Filter | None = None

    search = Search.model_validate_json('{"filter": {"not": {"field": "metadata.n", "in": [1, 2.5, true, "x"]}}}')

    assert search.filter == Not.model_validate({"not": {"field": "metadata.n", "in": [1, 2.5, True, "x"]}})
    assert "FilterNode" in str(Search.model_json_schema()) or "MetadataCondition" in str(Search.model_json_schema())


def test_values_keep_their_types() -> None:
    node = FILTERS.validate_python({"field": "metadata.n", "in": [1, 1.0, True, "1"]})

    assert isinstance(node, MetadataCondition)
    assert [type(value) for value in node.in_ or []] == [int, float, bool, str]


def test_a_parsed_filter_can_be_passed_on() -> None:
    node = FILTERS.validate_python({"all": [LANG, {"any": [LANG]}, {"not": LANG}]})

    assert FILTERS.validate_python(node) == node


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        None,
        "x",
        {"all": []},
        {"any": []},
        {"all": LANG},
        {"not": [LANG]},
        {"all": [LANG], "any": [LANG]},
        {**LANG, "extra": 1},
        {"field": "metadata.lang"},
        {"field": "metadata.lang", "eq": None},
        {"field": "metadata.lang", "eq": ["en"]},
        {"field": "metadata.lang", "eq": {"a": 1}},
        {"field": "metadata.lang", "eq": "x" * 1025},
        {"field": "metadata.lang", "eq": "a\x00b"},
        {"field": "metadata.lang", "eq": "\ud800"},
        {"field": "metadata.lang", "eq": float("nan")},
        {"field": "metadata.lang", "eq": float("inf")},
        {"field": "metadata.lang", "eq": 2**63},
        {"field": "metadata.lang", "in": []},
        {"field": "metadata.lang", "in": ["x"] * 101},
        {"field": "metadata.lang", "gt": True},
        {"field": "metadata.lang", "gt": "english"},
        {"field": "metadata.lang", "gt": "2024-05-01T00:00:00"},
        {"field": "metadata.lang", "gt": 1, "lt": "2024-05-01"},
        {"field": "metadata.lang", "exists": "yes"},
        {"field": "metadata.lang", "exists": 1},
        {"field": "metadata.lang", "prefix": ""},
        {"field": "metadata.lang", "prefix": "x" * 256},
        {"field": "metadata.lang", "prefix": 1},
        {"field": "metadata.", "eq": 1},
        {"field": "metadata", "eq": 1},
        {"field": 'metadata.a"b', "eq": 1},
        {"field": "metadata.a\\b", "eq": 1},
        {"field": "metadata.a\nb", "eq": 1},
        {"field": "metadata." + "x" * 201, "eq": 1},
        {"field": "tenant_id", "eq": "x"},
        {"field": "project_id", "ne": "x"},
        {"field": "version", "eq": 1},
        {"field": 1, "eq": 1},
        {"field": "document_id", "eq": "x"},
        {"field": "document_id", "eq": 7},
        {"field": "document_id", "prefix": "0"},
        {"field": "document_id", "in": []},
        {"field": "content_type", "eq": 1},
        {"field": "content_type", "gt": "a"},
        {"field": "created_at", "gt": 1714521600},
        {"field": "created_at", "gt": "yesterday"},
        {"field": "created_at", "exists": True},
        {"field": "name", "gt": "a"},
        {"field": "name", "exists": True},
        {"field": "name", "prefix": ""},
        {"field": "language", "eq": "English"},
        {"field": "language", "eq": "e\n"},
        {"field": "language", "prefix": "e"},
    ],
    ids=lambda value: str(value)[:60],
)
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        FILTERS.validate_python(value)


def nested(levels: int) -> Any:
    value: Any = LANG
    for _ in range(levels - 1):
        value = {"not": value}
    return value


def test_depth_is_limited_however_absurd() -> None:
    FILTERS.validate_python(nested(MAX_DEPTH))
    for levels in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(ValidationError, match="levels deep"):
            FILTERS.validate_python(nested(levels))


def test_size_is_limited_over_all_levels() -> None:
    FILTERS.validate_python({"any": [{"all": [LANG] * 40}] * 4})
    with pytest.raises(ValidationError, match="conditions"):
        FILTERS.validate_python({"any": [{"all": [LANG] * 40}] * 5})
    with pytest.raises(ValidationError, match="conditions"):
        FILTERS.validate_python({"any": [LANG] * (MAX_NODES + 1)})


@pytest.mark.parametrize(
    "text,expected",
    [
        ("2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
        ("2024-05-01T10:00:00Z", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("2024-05-01t10:00:00.5+02:00", datetime(2024, 5, 1, 8, 0, 0, 500_000, tzinfo=UTC)),
        ("2024-05-01T10:00:00", None),
        ("2024-02-31", None),
        ("20240501", None),
        ("2024-05-01T25:00:00Z", None),
        ("0001-01-01T00:00:00+02:00", None),
        ("٢٠٢٤-05-01", None),
        ("", None),
    ],
)
def test_instants_are_rfc_3339_and_nothing_else(text: str, expected: datetime | None) -> None:
    assert parse_instant(text) == expected


def test_a_text_is_measured_as_it_is_compared() -> None:
    """In NFC, where most texts are shorter and a few are longer."""
    shorter = FILTERS.validate_python({"field": "metadata.x", "prefix": "e\u0301" * 255})
    assert isinstance(shorter, MetadataCondition)
    assert shorter.prefix == "\u00e9" * 255
    with pytest.raises(ValidationError):
        FILTERS.validate_python({"field": "metadata.x", "prefix": "\u0958" * 128})


def test_a_time_that_is_already_one_is_brought_to_utc() -> None:
    moment = datetime.fromisoformat("2024-05-01T10:00:00+02:00")

    node = FILTERS.validate_python({"field": "created_at", "eq": moment})

    assert isinstance(node, CreatedAtCondition)
    assert node.eq == moment
    assert node.eq.tzinfo == UTC


@pytest.mark.parametrize(
    ("condition", "most"),
    [
        ({"field": "metadata.n", "gt": 1}, MAX_INTERVALS),
        ({"field": "metadata.n", "ne": 1}, MAX_NEGATIONS),
        ({"field": "metadata.n", "exists": False}, MAX_NEGATIONS),
        ({"not": {"field": "metadata.n", "eq": 1}}, MAX_NEGATIONS),
        ({"field": "metadata.n", "in": list(range(100))}, MAX_LISTED // 100),
    ],
)
def test_conditions_that_cost_an_engine_much_are_few(condition: dict[str, Any], most: int) -> None:
    FILTERS.validate_python({"any": [condition] * most})
    with pytest.raises(ValidationError, match="at most"):
        FILTERS.validate_python({"any": [condition] * (most + 1)})
    with pytest.raises(ValidationError, match="at most"):
        FILTERS.validate_python({"all": [{"any": [condition] * most}, {"not": {"all": [condition]}}]})
