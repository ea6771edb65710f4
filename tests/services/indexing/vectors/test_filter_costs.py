"""What a filter may ask of an engine, counted: weight for each point, and points."""

from typing import Any
from uuid import uuid4

import pytest
from pydantic import JsonValue

from services.indexing.vectors import store as stores
from services.indexing.vectors.errors import FilterTooExpensive
from services.indexing.vectors.filter_costs import CHEAP, CONDITION, INTERVAL, MOST, NEGATION, PREFIX, weight
from services.indexing.vectors.filters import MAX_INTERVALS, MAX_NODES
from services.indexing.vectors.points import VectorQuery
from services.indexing.vectors.store import VectorStore
from tests.services.indexing.vectors.samples import chunk, parsed

EXISTS: dict[str, JsonValue] = {"field": "metadata.n", "exists": True}


@pytest.mark.parametrize(
    ("value", "weighs"),
    [
        (EXISTS, CONDITION),
        ({"field": "metadata.n", "eq": 1}, CONDITION),
        ({"field": "metadata.n", "exists": False}, NEGATION + CONDITION),
        ({"field": "metadata.n", "ne": 1}, NEGATION + CONDITION),
        ({"field": "document_id", "ne": str(uuid4())}, NEGATION + CONDITION),
        ({"not": EXISTS}, NEGATION + CONDITION),
        ({"not": {"not": EXISTS}}, 2 * NEGATION + CONDITION),
        ({"field": "metadata.n", "prefix": "a"}, PREFIX + CONDITION),
        ({"field": "content_type", "prefix": "a"}, PREFIX + CONDITION),
        ({"field": "name", "prefix": "a"}, PREFIX + CONDITION),
        ({"field": "language", "exists": False}, NEGATION + CONDITION),
        ({"field": "metadata.n", "gt": 1}, INTERVAL + CONDITION),
        ({"field": "metadata.n", "gt": 1, "lt": 3, "gte": 2}, INTERVAL + CONDITION),
        ({"field": "metadata.n", "lte": "2024-01-01"}, INTERVAL + CONDITION),
        ({"field": "created_at", "gt": "2024-01-01", "lt": "2025-01-01"}, 2 * CONDITION),
        ({"field": "metadata.n", "in": list(range(100))}, CONDITION + 5),
        ({"field": "metadata.n", "gt": 1, "ne": 2, "prefix": "a"}, INTERVAL + NEGATION + PREFIX + CONDITION),
        ({"all": [EXISTS, {"any": [EXISTS, EXISTS]}]}, 3 * CONDITION),
    ],
)
def test_every_condition_weighs_what_it_costs(value: JsonValue, weighs: int) -> None:
    assert weight(parsed(value)) == weighs


def test_a_filter_with_one_of_everything_ordinary_is_for_any_project() -> None:
    value: list[JsonValue] = [
        {"field": "metadata.lang", "in": ["en", "de"]},
        {"field": "metadata.draft", "ne": True},
        {"field": "created_at", "gte": "2024-01-01"},
        EXISTS,
    ]
    assert weight(parsed({"all": value})) <= CHEAP


def test_an_interval_is_for_projects_of_nearly_a_hundred_thousand_passages_and_all_conditions_for_half() -> None:
    assert weight(parsed({"field": "metadata.n", "gt": 1})) * 99_000 <= MOST
    assert weight(parsed({"all": [EXISTS] * (MAX_NODES - 1)})) * 50_000 <= MOST
    assert weight(parsed({"any": [{"field": "metadata.n", "gt": 1}] * MAX_INTERVALS})) * 100_000 > MOST
    assert weight(parsed({"all": [EXISTS] * (MAX_NODES - 1)})) * 100_000 > MOST


@pytest.mark.parametrize(
    "value",
    [
        {"field": "metadata.n", "gt": 0},
        {"all": [EXISTS] * (CHEAP + 1)},
        {"any": [{"field": "created_at", "gt": "2020-01-01"}] * (CHEAP + 1)},
    ],
)
async def test_an_engine_is_not_asked_for_more_than_the_bound(
    store: VectorStore, value: JsonValue, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, query = store.project(uuid4(), uuid4()), VectorQuery(mode="keyword", text="word", filter=parsed(value))
    await project.upsert([chunk("word", chunk_index=index, metadata={"n": 1}) for index in range(3)])
    monkeypatch.setattr(stores, "MOST", 3 * weight(parsed(value)))
    assert len(await project.search(query)) == 3
    await project.upsert([chunk("word", metadata={"n": 1})])
    asked: list[Any] = []
    monkeypatch.setattr(type(store._engines[384]), "search", asked.append)
    with pytest.raises(FilterTooExpensive):
        await project.search(query)
    assert asked == []


async def test_another_project_does_not_count(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant, value = uuid4(), parsed({"field": "metadata.n", "gt": 0})
    await store.project(tenant, uuid4()).upsert([chunk("word", chunk_index=index) for index in range(3)])
    project = store.project(tenant, uuid4())
    await project.upsert([chunk("word", metadata={"n": 1})])
    monkeypatch.setattr(stores, "MOST", weight(value))
    assert len(await project.search(VectorQuery(mode="keyword", text="word", filter=value))) == 1
