"""Ten thousand searches with hostile filters, as two tenants who share ids and words: none finds the other's points.

A thousand through each of the other engines, which share with the embedded one whatever isolates.
"""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue, TypeAdapter, ValidationError

from services.indexing.vectors.embedded import engine_client
from services.indexing.vectors.filters import Filter, FilterNode
from services.indexing.vectors.points import MAX_WINDOW, ChunkPoint, Mode, VectorQuery
from services.indexing.vectors.store import ProjectVectors, VectorStore
from tests.services.indexing.vectors.samples import vector_of
from tests.support.vector_stores import KINDS, vector_store

SEARCHES = {"embedded": 10_000, "shared": 1_000, "qdrant": 1_000}
SEED = 20_261_123
SIDE_BY_SIDE = 50
TENANTS = (uuid.UUID(int=0xA), uuid.UUID(int=0xB))
# The same project ids under both tenants, so that nothing but the tenant tells their points apart.
PROJECTS = (uuid.UUID(int=0xC), uuid.UUID(int=0xD))
SCOPES = [(tenant, project) for tenant in TENANTS for project in PROJECTS]
WORDS = ("ledger", "canary", "harbour", "glacier", "tenant_id", "project_id", "*", "OR", "1=1")
FILTERS: TypeAdapter[FilterNode] = TypeAdapter(Filter)


def document_of(scope: int, number: int) -> uuid.UUID:
    return uuid.UUID(int=(scope + 1) * 1000 + number)


def points_of(scope: int) -> list[ChunkPoint]:
    """Points that name every other scope in their metadata, as somebody would who hopes to be mistaken for it."""
    return [
        ChunkPoint(
            document_id=document_of(scope, number),
            version=1,
            chunk_index=number % 3,
            vector=vector_of(f"{WORDS[number % 4]} canary of scope {scope}"),
            text=f"{WORDS[number % 4]} canary of scope {scope}",
            content_type="text/plain",
            created_at=datetime(2026, 1, 1 + number, tzinfo=UTC),
            metadata={
                "tenant_id": str(TENANTS[number % 2]),
                "project_id": str(PROJECTS[number % 2]),
                "owner": f"scope-{(scope + number) % 4}",
                "n": number,
            },
            name=f"scope-{(scope + number) % 4}.txt",
            language="en" if number % 2 else None,
        )
        for number in range(20)
    ]


def hostile_filter(dice: random.Random, depth: int = 0) -> JsonValue:
    """A filter that holds for much, for foreign ids, or for everything."""
    foreign = str(document_of(dice.randrange(4), dice.randrange(20)))
    field = dice.choice(["tenant_id", "project_id", "owner", "n", "nothing", "facts", "tenant_id.x"])
    values: list[JsonValue] = [str(TENANTS[0]), str(TENANTS[1]), str(PROJECTS[1]), "scope-1", 3, True, "*", ""]
    value = dice.choice(values)
    leaves: list[JsonValue] = [
        {"field": "document_id", "eq": foreign},
        {"field": "document_id", "ne": foreign},
        {"field": "document_id", "in": [foreign, str(document_of(0, 0)), str(document_of(2, 1))]},
        {"field": f"metadata.{field}", "eq": value},
        {"field": f"metadata.{field}", "ne": value},
        {"field": f"metadata.{field}", "exists": dice.random() < 0.5},
        {"field": "metadata.n", "gte": dice.randrange(-5, 25)},
        {"field": "content_type", "prefix": "text/"},
        {"field": "name", "prefix": "scope"},
        {"field": "language", "exists": dice.random() < 0.5},
        {"field": "created_at", "gt": "2000-01-01"},
    ]
    if depth == 3 or dice.random() < 0.4:
        return dice.choice(leaves)
    inner = [hostile_filter(dice, depth + 1) for _ in range(dice.randrange(1, 4))]
    combined: list[JsonValue] = [{"any": inner}, {"all": inner}, {"not": inner[0]}, {"not": {"not": inner[0]}}]
    return dice.choice(combined)


@pytest.fixture(autouse=True)
def _long_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty searches at a time are asked of one engine here, and it is not a test of its speed."""
    monkeypatch.setattr(engine_client, "SEARCH_SECONDS", 60.0)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    named: str = request.param
    return named


@pytest.fixture(scope="module")
async def store(kind: str, folders: Callable[[str], Path]) -> AsyncIterator[VectorStore]:
    async with vector_store(kind, folders("hostile")) as store:
        for scope, (tenant, project) in enumerate(SCOPES):
            await store.project(tenant, project).upsert(points_of(scope))
        yield store


async def test_ten_thousand_hostile_searches_find_nothing_foreign(store: VectorStore, kind: str) -> None:
    """Seeded, so that a failure comes again. Every search has 60 points of others within reach of its filter."""
    dice = random.Random(SEED)
    own = [{point.document_id for point in points_of(scope)} for scope in range(len(SCOPES))]
    seen: Counter[str] = Counter()

    async def attack(number: int, scope: int, query: VectorQuery) -> None:
        hits = await store.project(*SCOPES[scope]).search(query)
        foreign = [hit for hit in hits if hit.document_id not in own[scope]]
        assert foreign == [], (SEED, number, query)
        seen["hits"] += len(hits)
        seen["answered"] += bool(hits)

    for start in range(0, SEARCHES[kind], SIDE_BY_SIDE):
        await asyncio.gather(
            *(attack(number, dice.randrange(4), _query(dice)) for number in range(start, start + SIDE_BY_SIDE))
        )
    # A search that finds nothing proves little: most of these find something.
    assert seen["answered"] > SEARCHES[kind] / 3
    assert seen["hits"] > SEARCHES[kind]


def _query(dice: random.Random) -> VectorQuery:
    mode: Mode = dice.choice(["semantic", "keyword", "hybrid"])
    text = " ".join(dice.choices(WORDS, k=3))
    narrowed = FILTERS.validate_python(hostile_filter(dice)) if dice.random() < 0.9 else None
    return VectorQuery(
        mode=mode, vector=VECTORS[text.split()[0]], text=text, filter=narrowed, limit=dice.choice([1, 10, MAX_WINDOW])
    )


VECTORS = {word: vector_of(word) for word in WORDS}


@pytest.mark.parametrize(
    "raw",
    [
        {"must": [{"key": "tenant_id", "match": {"value": str(TENANTS[1])}}]},
        {"should": []},
        {"field": "tenant_id", "eq": str(TENANTS[1])},
        {"field": "project_id", "eq": str(PROJECTS[1])},
        {"key": "tenant_id", "match": {"value": "x"}},
        {"has_id": [str(uuid.uuid4())]},
        {"field": "metadata.a", "eq": 1, "must_not": []},
        {"all": [], "should": [{"field": "metadata.a", "eq": 1}]},
        {"nested": {"key": "facts"}},
        [],
        "tenant_id != ''",
    ],
)
def test_a_filter_in_the_engines_own_language_is_refused(raw: Any) -> None:
    with pytest.raises(ValidationError):
        FILTERS.validate_python(raw)


async def test_the_same_ids_under_two_tenants_are_two_points(store: VectorStore) -> None:
    """Nobody overwrites a point by knowing all of its ids but the tenant's."""
    project_id, document_id = uuid.uuid4(), uuid.uuid4()
    victim, attacker = (store.project(uuid.uuid4(), project_id) for _ in range(2))
    point = points_of(0)[0]
    for project in (victim, attacker):
        await project.upsert([_of_document(point, document_id)])
    assert await victim.count() == await attacker.count() == 1
    assert await victim.point_ids(document_id) != await attacker.point_ids(document_id)
    assert await attacker.delete_document(document_id) == 1
    assert await victim.count() == 1


@pytest.mark.parametrize("missing", [None, uuid.UUID(int=0), "", str(uuid.UUID(int=7))])
async def test_without_a_tenant_there_is_no_store(store: VectorStore, missing: Any) -> None:
    with pytest.raises(TypeError):
        store.project(missing, uuid.uuid4())
    with pytest.raises(TypeError):
        store.project(uuid.uuid4(), missing)
    with pytest.raises(TypeError):
        store.tenant(missing)


async def test_an_erasure_reaches_one_tenant(store: VectorStore) -> None:
    victim, other = uuid.uuid4(), uuid.uuid4()
    kept: list[ProjectVectors] = []
    for tenant in (victim, other):
        project = store.project(tenant, PROJECTS[0])
        await project.upsert([points_of(0)[0]])
        kept.append(project)
    assert await store.tenant(victim).delete_tenant() == 1
    assert [await project.count() for project in kept] == [0, 1]


def _of_document(point: ChunkPoint, document_id: uuid.UUID) -> ChunkPoint:
    return ChunkPoint(
        document_id=document_id,
        version=point.version,
        chunk_index=point.chunk_index,
        vector=point.vector,
        text=point.text,
        content_type=point.content_type,
        created_at=point.created_at,
        metadata=point.metadata,
    )
