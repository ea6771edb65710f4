"""No tenant and no project sees, or feels, another: through any filter, in any mode."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from services.indexing.analysis import CURRENT
from services.indexing.vectors.engine import EngineRecord, EngineSearch
from services.indexing.vectors.errors import ScopeViolation
from services.indexing.vectors.points import MAX_WINDOW, ChunkPoint, ChunkWords, Mode, VectorQuery
from services.indexing.vectors.store import ProjectVectors, VectorStore
from tests.services.indexing.vectors.oracle import matches
from tests.services.indexing.vectors.samples import chunk, parsed, vector_of

TENANTS = (UUID(int=0xA1), UUID(int=0xB2))
PROJECTS = (UUID(int=0xC3), UUID(int=0xD4))
SCOPES = [(tenant, project) for tenant in TENANTS for project in PROJECTS]

METADATA: list[dict[str, JsonValue]] = [
    {},
    {"lang": "en", "year": 2020, "draft": True},
    {"lang": "EN", "year": 2020.5, "draft": False, "when": "2024-05-01"},
    {"lang": ["en", "fr"], "year": [1, 3000], "when": "2024-05-01T00:00:00+02:00"},
    {"lang": [], "year": "2020", "draft": "true", "when": "someday"},
    {"lang": None, "year": 1, "draft": 1, "o": {"lang": "en", "x y": [{"z": 1}, {"z": 2}]}},
    {"lang": "english", "year": -0.0, "draft": [True, False], "tenant_id": str(TENANTS[1])},
    {"lang": "e" * 300, "year": 2**60, "o.lang": "en", "when": ["2020-01-01", "2030-01-01T10:00:00Z"]},
    {"lang": "e" * 255, "year": 1e300, "o": {}, "project_id": str(PROJECTS[1])},
]
CONTENT_TYPES = ["text/plain", "text/html", "application/pdf"]
NAMES = ["report.pdf", "Report.pdf", "r" * 255, "report 2.pdf"]
LANGUAGES = ["en", "de", None]


def document_of(scope: int, number: int) -> UUID:
    return UUID(int=(scope + 1) * 1000 + number)


CORPUS: list[list[ChunkPoint]] = [
    [
        chunk(
            f"canary of scope {scope} number {number}",
            document_id=document_of(scope, number),
            content_type=CONTENT_TYPES[number % 3],
            created_at=datetime(2024, 1, 1 + number, tzinfo=UTC),
            metadata=metadata,
            name=NAMES[number % 4],
            language=LANGUAGES[number % 3],
        )
        for number, metadata in enumerate(METADATA)
    ]
    for scope in range(len(SCOPES))
]

fields = st.sampled_from(["lang", "year", "draft", "when", "o", "o.lang", "o.x y.z", "tenant_id", "project_id", "none"])
words = st.sampled_from(["en", "EN", "e", "english", "true", "2020", "2024-05-01", "e" * 300, *map(str, TENANTS)])
numbers = st.sampled_from([-1, 0, 1, 1.0, 2, 2020, 2020.0, 2020.5, 3000, 2**60, 1e300])
scalars = st.one_of(words, numbers, st.booleans())
instants = st.sampled_from(["2024-01-03", "2024-05-01", "2024-04-30T22:00:00Z", "2024-05-01T00:00:00Z", "2029-01-01"])
identities = st.builds(lambda s, n: str(document_of(s, n)), st.integers(0, 3), st.integers(0, len(METADATA)))
content_types = st.sampled_from([*CONTENT_TYPES, "image/png"])


def conditions(
    field: st.SearchStrategy[str], operators: Mapping[str, st.SearchStrategy[JsonValue]]
) -> st.SearchStrategy[JsonValue]:
    """One or two operators on one field."""
    one = st.one_of(*(st.tuples(st.just(name), values) for name, values in operators.items()))
    return st.builds(lambda name, pairs: {"field": name, **dict(pairs)}, field, st.lists(one, min_size=1, max_size=2))


def lists(values: st.SearchStrategy[JsonValue]) -> st.SearchStrategy[JsonValue]:
    return st.lists(values, min_size=1, max_size=4).map(list)


bounds = st.one_of(
    st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), numbers, min_size=1),
    st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), instants, min_size=1),
)
of_scalars = {"eq": scalars, "ne": scalars, "in": lists(scalars), "exists": st.booleans()}
of_identities = {"eq": identities, "ne": identities, "in": lists(identities)}
of_content_types = {"eq": content_types, "ne": content_types, "prefix": st.sampled_from(["t", "text/", "text/plain"])}
names = st.sampled_from([*NAMES, "report"])
languages = st.sampled_from(["en", "de", "fr"])
of_names = {"eq": names, "ne": names, "in": lists(names), "prefix": st.sampled_from(["r", "report", "R", "r" * 255])}
of_languages = {"eq": languages, "ne": languages, "in": lists(languages), "exists": st.booleans()}
leaves = st.one_of(
    conditions(fields.map("metadata.{}".format), of_scalars),
    st.builds(lambda field, prefix: {"field": f"metadata.{field}", "prefix": prefix[:255]}, fields, words),
    st.builds(lambda field, bounds: {"field": f"metadata.{field}", **bounds}, fields, bounds),
    conditions(st.just("document_id"), of_identities),
    conditions(st.just("content_type"), of_content_types),
    conditions(st.just("name"), of_names),
    conditions(st.just("language"), of_languages),
    conditions(st.just("created_at"), dict.fromkeys(["eq", "ne", "gt", "gte", "lt", "lte"], instants)),
)
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda nodes: {"all": nodes}),
        st.lists(inner, min_size=1, max_size=3).map(lambda nodes: {"any": nodes}),
        inner.map(lambda node: {"not": node}),
    ),
    max_leaves=6,
)


async def seeded(store: VectorStore) -> list[ProjectVectors]:
    projects = [store.project(tenant, project) for tenant, project in SCOPES]
    for project, points in zip(projects, CORPUS, strict=True):
        if await project.count() == 0:
            await project.upsert(points)
            await store.optimize()
    return projects


async def found(project: ProjectVectors, filter: JsonValue, mode: Mode) -> set[UUID]:
    query = VectorQuery(
        mode=mode,
        vector=vector_of("canary of another scope"),
        text="canary scope 0 1 2 3",
        filter=parsed(filter),
        limit=MAX_WINDOW,
    )
    return {hit.document_id for hit in await project.search(query)}


@given(filters)
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
async def test_no_filter_finds_more_or_less_than_it_says_within_its_own_project(
    store: VectorStore, filter: JsonValue
) -> None:
    """100 filters, 4 projects, 3 modes: 1,200 searches an engine, all other projects' points within reach."""
    projects = await seeded(store)
    modes: tuple[Mode, ...] = ("semantic", "keyword", "hybrid")
    answers = await asyncio.gather(*(found(project, filter, mode) for project in projects for mode in modes))
    node = parsed(filter)
    for scope, points in enumerate(CORPUS):
        expected = {point.document_id for point in points if matches(node, point)}
        assert answers[3 * scope : 3 * scope + 3] == [expected] * 3


async def test_filters_that_hold_for_everything_stay_within_the_project(store: VectorStore) -> None:
    projects = await seeded(store)
    foreign = str(document_of(3, 1))
    everything: Sequence[JsonValue] = [
        {"not": {"field": "metadata.nothing", "exists": True}},
        {"any": [{"field": "document_id", "eq": foreign}, {"field": "document_id", "ne": foreign}]},
        {"not": {"all": [{"field": "content_type", "eq": "text/plain"}, {"field": "content_type", "eq": "x"}]}},
        {"not": {"not": {"field": "created_at", "gt": "2000-01-01"}}},
    ]
    for widest in everything:
        assert await found(projects[0], widest, "hybrid") == {point.document_id for point in CORPUS[0]}
    assert await found(projects[0], {"field": "document_id", "eq": foreign}, "hybrid") == set()


async def test_foreign_documents_can_be_neither_counted_nor_listed_nor_changed(store: VectorStore) -> None:
    projects = await seeded(store)
    foreign = CORPUS[1][1]

    assert await projects[0].count(foreign.document_id) == 0
    assert await projects[0].point_ids(foreign.document_id) == []
    assert await projects[0].tally(foreign.document_id) == []
    await projects[0].set_metadata(foreign.document_id, {"lang": "stolen"})
    words = ChunkWords(text="stolen", context="")
    await projects[0].set_words(foreign.document_id, foreign.version, {foreign.generation: CURRENT}, words)
    assert await projects[0].delete_document(foreign.document_id) == 0
    assert await projects[0].delete_versions_except(foreign.document_id, {99}) == 0

    mine = await found(projects[1], {"field": "metadata.lang", "eq": "en"}, "keyword")
    assert foreign.document_id in mine
    assert await projects[1].search(VectorQuery(mode="keyword", text="stolen")) == []
    assert await projects[1].count(foreign.document_id) == 1


async def test_the_same_document_id_in_two_projects_is_two_documents(store: VectorStore) -> None:
    tenant, document = uuid4(), uuid4()
    first, second = store.project(tenant, uuid4()), store.project(tenant, uuid4())
    await first.upsert([chunk("mine", document_id=document)])
    await second.upsert([chunk("theirs", document_id=document)])

    assert await first.count() == await second.count() == 1
    assert await first.delete_document(document) == 1
    assert await second.count() == 1


async def test_metadata_cannot_pose_as_an_owner(store: VectorStore) -> None:
    victim, attacker = store.project(uuid4(), uuid4()), store.project(uuid4(), uuid4())
    await victim.upsert([chunk("secret")])
    await attacker.upsert([chunk("secret", metadata={"tenant_id": "x", "facts": ["y"], "a\x00sb": "c"})])

    assert await victim.count() == 1
    posed = parsed({"field": "metadata.a", "prefix": "b"})
    assert await attacker.search(VectorQuery(mode="keyword", text="secret", filter=posed)) == []


@pytest.mark.parametrize("mode", ["semantic", "keyword", "hybrid"])
async def test_scores_do_not_depend_on_what_other_projects_hold(store: VectorStore, mode: Mode) -> None:
    tenant = uuid4()
    project = store.project(tenant, uuid4())
    await project.upsert([chunk(f"ledger entry {n}", document_id=UUID(int=n + 1)) for n in range(9)])
    query = VectorQuery(mode=mode, vector=vector_of("ledger 3"), text="ledger entry 3", limit=20)
    alone = await project.search(query)

    for other in (store.project(tenant, uuid4()), store.project(uuid4(), uuid4())):
        await other.upsert([chunk("ledger 3 " * 5, chunk_index=n) for n in range(200)])

    assert await project.search(query) == alone


async def test_scores_do_not_depend_on_the_filter(store: VectorStore) -> None:
    project = store.project(uuid4(), uuid4())
    await project.upsert([chunk(f"ledger {'rare' if n == 3 else 'common'}", metadata={"n": n}) for n in range(9)])
    query = VectorQuery(mode="keyword", text="rare ledger")
    best = (await project.search(query))[0]

    only = parsed({"field": "metadata.n", "eq": 3})

    assert await project.search(replace(query, filter=only)) == [best]


async def test_a_foreign_point_from_a_faulty_engine_is_never_shown(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second guard: an engine that forgets the scope."""
    project = store.project(uuid4(), uuid4())
    await store.project(uuid4(), uuid4()).upsert([chunk("leak")])
    search = store._engines[384].search

    async def forgetful(request: EngineSearch) -> list[EngineRecord]:
        return await search({**request, "where": {"must": []}})

    monkeypatch.setattr(store._engines[384], "search", forgetful)
    with pytest.raises(ScopeViolation):
        await project.search(VectorQuery(mode="keyword", text="leak"))


async def test_a_point_of_another_generation_from_a_faulty_engine_is_never_shown(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = store.project(uuid4(), uuid4())
    await project.upsert([chunk("leak", generation=2)])
    search = store._engines[384].search

    async def without_generation(request: EngineSearch) -> list[EngineRecord]:
        must = request["where"]["must"]
        assert isinstance(must, list)
        kept: list[JsonValue] = [condition for condition in must if "generation" not in str(condition)]
        return await search({**request, "where": {"must": kept}})

    monkeypatch.setattr(store._engines[384], "search", without_generation)
    with pytest.raises(ScopeViolation):
        await project.search(VectorQuery(mode="keyword", text="leak", generation=3))
