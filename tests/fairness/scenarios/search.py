"""Searches that are dear to answer, beside another tenant's ordinary ones."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.fairness import neighbours
from tests.fairness.rounds import at_once
from tests.fairness.scenario import Attacker, Operation, Scenario
from tests.support.documents import note
from tests.support.system import create_project, settled

_TEXT_BYTES = 264_000
_DOCUMENTS = 60
_METADATA_BYTES = 15_500


@asynccontextmanager
async def _a_thousand_equal_words(attackers: Sequence[Attacker]) -> AsyncIterator[Operation]:
    (attacker,) = attackers
    project = await create_project(attacker.client, "attack")
    await _upload(attacker, project, "long.txt", ("一 " * (_TEXT_BYTES // 4)).encode())
    await settled(attacker.client, project, 1, within=120)
    yield at_once(2, _search(attacker, project, {"query": "一 " * 1000, "mode": "keyword", "limit": 50}))


@asynccontextmanager
async def _ten_equal_facets(attackers: Sequence[Attacker]) -> AsyncIterator[Operation]:
    attacker, project = await _library(attackers, {"rows": [{"a": 1}] * (_METADATA_BYTES // 9)})
    facets = ["metadata.rows.a"] * 10
    yield at_once(2, _search(attacker, project, {"query": "repair", "mode": "keyword", "limit": 1, "facets": facets}))


@asynccontextmanager
async def _large_answers(attackers: Sequence[Attacker]) -> AsyncIterator[Operation]:
    attacker, project = await _library(attackers, {"note": "x" * _METADATA_BYTES})
    yield at_once(8, _search(attacker, project, {"query": "repair", "mode": "keyword", "limit": 50}))


@asynccontextmanager
async def _many_at_once(attackers: Sequence[Attacker]) -> AsyncIterator[Operation]:
    attacker, project = await _library(attackers, {"n": 1})
    body = {"query": "how was the railway kept in repair " * 50, "mode": "hybrid", "limit": 50}
    yield at_once(60, _search(attacker, project, body))


@asynccontextmanager
async def _deep_filters(attackers: Sequence[Attacker]) -> AsyncIterator[Operation]:
    attacker, project = await _library(attackers, {"n": 1, "note": "x" * _METADATA_BYTES})
    listed = {"any": [{"field": "metadata.note", "in": [f"{n} {m}" for m in range(100)]} for n in range(20)]}
    negated = {"all": [{"field": "metadata.note", "ne": str(number)} for number in range(20)]}
    intervals = {"any": [{"field": "metadata.n", "gt": number} for number in range(4)]}
    body = {"query": "repair", "mode": "hybrid", "filter": {"all": [intervals, negated, {"any": [listed, negated]}]}}
    # One of them is refused for its negations; both are asked for.
    fair = {**body, "filter": {"all": [intervals, negated, listed]}}
    searches = [_search(attacker, project, body), _search(attacker, project, fair)]

    async def both() -> None:
        for search in searches:
            await search()

    yield at_once(8, both)


async def _library(attackers: Sequence[Attacker], metadata: dict[str, Any]) -> tuple[Attacker, str]:
    (attacker,) = attackers
    project = await create_project(attacker.client, "attack")
    for number in range(_DOCUMENTS):
        document_id = await _upload(attacker, project, f"note-{number}.txt", note(number, size=4096))
        path = f"/v1/projects/{project}/documents/{document_id}"
        # Not on condition of a revision: each event of its indexing is one.
        changed = await attacker.client.patch(path, json={"metadata": metadata})
        assert changed.status_code == 200, changed.text
    await settled(attacker.client, project, _DOCUMENTS, within=180)
    return attacker, project


async def _upload(attacker: Attacker, project: str, name: str, content: bytes) -> str:
    answer = await attacker.client.post(
        f"/v1/projects/{project}/documents",
        params={"name": name},
        content=content,
        headers={"Content-Type": "text/plain"},
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def _search(attacker: Attacker, project: str, body: dict[str, Any]) -> Operation:
    async def search() -> None:
        await attacker.client.post(f"/v1/projects/{project}/search", json=body)

    return search


SCENARIOS = (
    Scenario(
        "search-highlights",
        "a keyword search of a thousand equal words over one document of 264 kB, beside another tenant's search",
        neighbours.keyword_search,
        _a_thousand_equal_words,
    ),
    Scenario(
        "search-facets",
        "ten equal facets over sixty documents with 16 kB of metadata, beside another tenant's search",
        neighbours.keyword_search,
        _ten_equal_facets,
    ),
    Scenario(
        "search-large-answers",
        "pages of fifty items with 16 kB of metadata, eight at a time, beside another tenant's search",
        neighbours.keyword_search,
        _large_answers,
    ),
    Scenario(
        "search-many",
        "sixty long hybrid searches at a time, beside another tenant's hybrid search",
        neighbours.hybrid_search,
        _many_at_once,
    ),
    Scenario(
        "search-filters",
        "filters with as much in them as they may have, eight at a time, beside another tenant's search",
        neighbours.keyword_search,
        _deep_filters,
    ),
)
