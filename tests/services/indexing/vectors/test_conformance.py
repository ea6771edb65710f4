"""What every engine must do, seen through the facade."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from pydantic import JsonValue

from services.indexing.analysis import CURRENT, FIRST
from services.indexing.vectors import batched_operations
from services.indexing.vectors.engine import Condition
from services.indexing.vectors.errors import InvalidPoint, SearchWindowExceeded
from services.indexing.vectors.points import (
    MAX_WINDOW,
    ChunkPoint,
    ChunkWords,
    Hit,
    Mode,
    VectorQuery,
    VersionPoints,
    point_id,
)
from services.indexing.vectors.store import ProjectVectors, VectorStore
from tests.services.indexing.vectors.samples import DIMENSIONS, chunk, parsed, vector_of

MODES: list[Mode] = ["semantic", "keyword", "hybrid"]


def about(text: str, mode: Mode = "hybrid", limit: int = 10, offset: int = 0) -> VectorQuery:
    return VectorQuery(mode=mode, vector=vector_of(text), text=text, limit=limit, offset=offset)


def documents(hits: list[Hit]) -> list[UUID]:
    return [hit.document_id for hit in hits]


@pytest.mark.parametrize("mode", MODES)
async def test_the_nearest_chunk_comes_first(project: ProjectVectors, mode: Mode) -> None:
    wanted = chunk("turtles swim slowly across warm lagoons", chunk_index=3, version=2)
    await project.upsert([wanted, chunk("granite mountains"), chunk("turtles alone")])

    hit = (await project.search(about("turtles lagoons", mode)))[0]

    assert (hit.document_id, hit.version, hit.generation, hit.chunk_index) == (wanted.document_id, 2, 1, 3)
    assert hit.score > 0


async def test_a_keyword_search_finds_an_exact_word_that_no_vector_knows(project: ProjectVectors) -> None:
    wanted = chunk("the part number is QX-4417 as printed")
    await project.upsert([wanted, *(chunk(f"other parts {n}") for n in range(20))])

    for query in ("QX-4417", "qx-4417", "4417"):
        assert documents(await project.search(about(query, "keyword"))) == [wanted.document_id]


async def test_keywords_match_by_stem_and_without_accents(project: ProjectVectors) -> None:
    wanted = chunk("Müller was running")
    await project.upsert([wanted, chunk("nothing of the kind")])

    assert documents(await project.search(about("runs", "keyword"))) == [wanted.document_id]
    assert documents(await project.search(about("muller", "keyword"))) == [wanted.document_id]


@pytest.mark.parametrize("query", ["", "?!"])
async def test_a_query_without_terms_finds_nothing_by_keyword_and_still_works_as_hybrid(
    project: ProjectVectors, query: str
) -> None:
    await project.upsert([chunk("the and of")])

    assert await project.search(about(query, "keyword")) == []
    assert len(await project.search(VectorQuery(text=query, vector=vector_of("the")))) == 1


async def test_a_query_of_function_words_alone_is_found(project: ProjectVectors) -> None:
    wanted = chunk("to be, or not to be")
    await project.upsert([wanted, *(chunk("whatever else there was") for _ in range(3))])

    assert documents(await project.search(about("to be or not to be", "keyword"))) == [wanted.document_id]


async def test_exact_words_come_before_other_forms_and_those_before_nothing(project: ProjectVectors) -> None:
    exact, other = chunk("a bridge with columns"), chunk("a bridge with column")
    await project.upsert([other, exact, chunk("a bridge alone")])

    found = documents(await project.search(about("columns", "keyword")))

    assert found == [exact.document_id, other.document_id]


async def test_the_context_of_a_chunk_is_searched(project: ProjectVectors) -> None:
    wanted = replace(chunk("valves and pumps"), context="Maintenance handbook")
    await project.upsert([wanted, chunk("valves and pumps")])

    assert documents(await project.search(about("handbooks", "keyword"))) == [wanted.document_id]


async def test_a_long_chunk_counts_less_for_a_word_than_a_short_one(project: ProjectVectors) -> None:
    short, long = chunk("a lantern here"), chunk("a lantern here" + " and something else" * 30)
    await project.upsert([replace(point, average_length=100.0) for point in (long, short)])

    assert documents(await project.search(about("lantern", "keyword"))) == [short.document_id, long.document_id]


async def test_points_of_the_first_analyzer_are_found_beside_those_of_the_present_one(project: ProjectVectors) -> None:
    old, new = replace(chunk("two lanterns"), analyzer=FIRST), chunk("two lanterns")
    await project.upsert([old, new, chunk("something else")])

    async def found(*analyzers: str) -> set[UUID]:
        query = VectorQuery(mode="keyword", text="lantern", analyzers=analyzers)
        return {hit.document_id for hit in await project.search(query)}

    assert await found(FIRST, CURRENT) == {old.document_id, new.document_id}
    assert (await found(FIRST), await found(CURRENT)) == ({old.document_id}, {new.document_id})


async def test_an_exact_word_is_not_buried_when_vectors_tell_nothing(project: ProjectVectors) -> None:
    """As with an embedder that does not know the language: all passages are about as similar to the query, and most
    have one or another word of it."""
    noise = np.random.default_rng(7)
    common = vector_of("common")

    def unclear(text: str) -> ChunkPoint:
        return replace(chunk(text), vector=common + noise.standard_normal(DIMENSIONS, dtype=np.float32) * 0.2)

    wanted = unclear("die Zugbrücke zwischen Mauer und Graben")
    await project.upsert([wanted, *(unclear(f"Mauer und Graben, Abschnitt {number}") for number in range(200))])

    for _ in range(20):
        vector = common + noise.standard_normal(DIMENSIONS, dtype=np.float32) * 0.2
        hits = await project.search(VectorQuery(text="Zugbrücken, Mauern und Gräben", vector=vector))
        assert hits[0].document_id == wanted.document_id


async def test_a_query_word_counts_as_often_as_it_is_said(project: ProjectVectors) -> None:
    apple, pear = chunk("apple"), chunk("pear")
    await project.upsert([apple, pear, chunk("neither")])

    assert documents(await project.search(about("apple pear pear", "keyword"))) == [pear.document_id, apple.document_id]
    assert documents(await project.search(about("apple apple pear", "keyword"))) == [
        apple.document_id,
        pear.document_id,
    ]


async def test_hybrid_puts_what_both_rankings_like_before_what_one_likes(project: ProjectVectors) -> None:
    both = chunk("harbour crane")
    await project.upsert([both, chunk("harbour"), chunk("something else")])

    hits = await project.search(about("harbour crane"))

    assert hits[0].document_id == both.document_id
    assert hits[0].score == pytest.approx(1)
    assert all(0 <= hit.score < 1 for hit in hits[1:])


@pytest.mark.parametrize("mode", MODES)
async def test_the_parts_of_a_score_are_told_on_demand(project: ProjectVectors, mode: Mode) -> None:
    await project.upsert([chunk("harbour crane"), chunk("harbour master"), chunk("something else")])
    query = about("harbour crane", mode)

    plain = await project.search(query)
    explained = await project.search(replace(query, explain=True))

    assert [replace(hit, parts=None) for hit in explained] == plain
    assert all(hit.parts is None for hit in plain)
    for rank, hit in enumerate(explained, start=1):
        parts = hit.parts or {}
        assert sum(part["share"] for part in parts.values()) == pytest.approx(hit.score)
        assert parts.keys() <= ({"semantic", "keyword"} if mode == "hybrid" else {mode})
        if mode != "hybrid":
            assert (parts[mode]["rank"], parts[mode]["score"]) == (rank, hit.score)
    assert len(await project.search(replace(query, explain=True, offset=1, limit=1))) == 1


async def test_writing_twice_is_writing_once(project: ProjectVectors) -> None:
    points = [chunk("once", chunk_index=n, document_id=uuid4()) for n in range(5)]

    await project.upsert(points)
    before = await project.search(about("once", "keyword"))
    await project.upsert(points)

    assert await project.count() == 5
    assert await project.search(about("once", "keyword")) == before


async def test_an_empty_batch_is_no_work(project: ProjectVectors) -> None:
    await project.upsert([])

    assert await project.count() == 0


async def test_versions_and_generations_live_beside_each_other(project: ProjectVectors) -> None:
    document = uuid4()
    await project.upsert([chunk("tide", document_id=document, version=v, generation=g) for v in (1, 2) for g in (1, 2)])

    assert await project.count(document) == 4
    assert await project.count(document, 2) == 2
    second = await project.search(VectorQuery(mode="keyword", text="tide", generation=2))
    assert {(hit.version, hit.generation) for hit in second} == {(1, 2), (2, 2)}
    assert {(tally.version, tally.generation, tally.points) for tally in await project.tally(document)} == {
        (1, 1, 1),
        (1, 2, 1),
        (2, 1, 1),
        (2, 2, 1),
    }


async def test_a_deleted_version_is_gone_and_the_others_stay(project: ProjectVectors) -> None:
    document, other = uuid4(), uuid4()
    await project.upsert([chunk("reef", document_id=document, version=version) for version in (1, 2, 3, 4)])
    await project.upsert([chunk("reef", document_id=other, version=1)])

    assert await project.delete_version(document, 1) == 1
    assert await project.delete_version(document, 1) == 0
    assert await project.delete_versions_except(document, {3}) == 2

    found = await project.search(about("reef", "keyword"))
    assert {(hit.document_id, hit.version) for hit in found} == {(document, 3), (other, 1)}


async def test_deleting_a_document_or_a_generation_leaves_the_rest(project: ProjectVectors) -> None:
    document, other = uuid4(), uuid4()
    await project.upsert([chunk("kelp", document_id=document, chunk_index=n) for n in range(3)])
    await project.upsert([chunk("kelp", document_id=other, generation=g) for g in (1, 2)])

    assert await project.delete_document(document) == 3
    assert await project.delete_generation(1) == 1
    assert [(hit.document_id, hit.generation) for hit in await project.search(about("kelp"))] == [(other, 2)]


async def test_a_project_and_a_tenant_can_be_erased_without_touching_others(store: VectorStore) -> None:
    tenant, neighbour = uuid4(), uuid4()
    first, second, foreign = uuid4(), uuid4(), uuid4()
    for owner, project_id in ((tenant, first), (tenant, second), (neighbour, foreign), (neighbour, first)):
        await store.project(owner, project_id).upsert([chunk("moss"), chunk("fern")])

    assert await store.project(tenant, first).delete_project() == 2
    assert await store.tenant(tenant).count() == 2
    assert await store.tenant(tenant).delete_tenant() == 2
    assert await store.tenant(tenant).delete_tenant() == 0

    assert await store.project(tenant, second).search(about("moss")) == []
    assert await store.tenant(neighbour).count() == 4


async def test_the_ids_of_a_document_are_those_its_chunks_were_given(store: VectorStore) -> None:
    tenant_id, project_id = uuid4(), uuid4()
    project, document = store.project(tenant_id, project_id), uuid4()
    points = [chunk(document_id=document, chunk_index=n) for n in range(1100)]
    await project.upsert([*points, chunk()])

    found = await project.point_ids(document)

    assert len(found) == 1100
    assert set(found) == {point_id(tenant_id, project_id, point, point.chunk_index) for point in points}


async def test_the_tally_of_the_store_names_every_owner(store: VectorStore) -> None:
    tenant_id, project_id, document = uuid4(), uuid4(), uuid4()
    await store.project(tenant_id, project_id).upsert([chunk(document_id=document, chunk_index=n) for n in range(3)])

    mine = [tally for tally in await store.tally() if tally.tenant_id == tenant_id]

    assert [(tally.project_id, tally.document_id, tally.points) for tally in mine] == [(project_id, document, 3)]


@pytest.mark.parametrize("mode", MODES)
async def test_pages_join_without_gap_or_repeat_even_where_scores_are_equal(
    project: ProjectVectors, mode: Mode
) -> None:
    await project.upsert([chunk("same words everywhere", chunk_index=n) for n in range(70)])
    whole = await project.search(about("same words", mode, limit=70))

    pages = [await project.search(about("same words", mode, limit=9, offset=start)) for start in range(0, 72, 9)]

    assert [hit.point_id for page in pages for hit in page] == [hit.point_id for hit in whole]
    assert len({hit.point_id for hit in whole}) == 70


async def test_a_ranking_ends_at_the_window(project: ProjectVectors) -> None:
    await project.upsert([chunk()])

    assert await project.search(about("plain", limit=1, offset=MAX_WINDOW - 1)) == []
    for limit, offset in ((1, MAX_WINDOW), (MAX_WINDOW + 1, 0), (0, 0), (1, -1)):
        with pytest.raises(SearchWindowExceeded):
            await project.search(about("plain", limit=limit, offset=offset))


async def test_new_metadata_is_what_filters_see(project: ProjectVectors) -> None:
    document = uuid4()
    await project.upsert([chunk("sand", document_id=document, metadata={"lang": "en", "year": 2020})])

    await project.set_metadata(document, {"lang": "fr"})

    async def found(condition: dict[str, object]) -> int:
        query = VectorQuery(mode="keyword", text="sand", filter=parsed({"field": "metadata.lang"} | condition))  # type: ignore[arg-type]  # plain dicts are JSON here
        return len(await project.search(query))

    assert (await found({"eq": "fr"}), await found({"eq": "en"})) == (1, 0)
    year = parsed({"field": "metadata.year", "gte": 2000})
    assert await project.search(VectorQuery(mode="keyword", text="sand", filter=year)) == []


async def test_a_document_is_found_by_new_words_and_keeps_all_else(project: ProjectVectors) -> None:
    document = uuid4()
    pieces = [chunk("sand", document_id=document, chunk_index=index, context="old") for index in range(2)]
    await project.upsert([*pieces, chunk("sand", document_id=document, version=2, context="old")])
    other = chunk("sand", document_id=document, generation=2, context="old")
    await project.upsert([other])
    before = await project.search(VectorQuery(mode="semantic", vector=pieces[0].vector, generation=1))

    await project.set_words(document, 1, {1: CURRENT, 3: CURRENT}, ChunkWords(text="sand", context="fresh"))

    async def found(text: str) -> set[tuple[int, int, int]]:
        hits = await project.search(VectorQuery(mode="keyword", text=text))
        return {(hit.version, hit.generation, hit.chunk_index) for hit in hits}

    assert await found("fresh") == {(1, 1, 0)}
    assert await found("old") == {(1, 1, 1), (2, 1, 0), (1, 2, 0)}
    assert len(await found("sand")) == 4
    assert await project.search(VectorQuery(mode="semantic", vector=pieces[0].vector, generation=1)) == before


async def test_many_points_are_changed_and_deleted_in_pieces(
    store: VectorStore, project: ProjectVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, other, many = uuid4(), uuid4(), 2 * batched_operations.SIZE + 5
    await project.upsert([chunk("silt", document_id=document, chunk_index=n) for n in range(many)])
    await project.upsert([chunk("silt", document_id=other)])
    engine, changed = store._engines[384], list[int]()

    def counting(change: Any) -> Any:
        async def counted(where: Condition, *args: object) -> Any:
            changed.append(await engine.count(where))
            return await change(where, *args)

        return counted

    monkeypatch.setattr(engine, "set_payload", counting(engine.set_payload))
    monkeypatch.setattr(engine, "delete", counting(engine.delete))
    await project.set_metadata(document, {"lang": "fr"})
    assert sum(changed) == many
    assert max(changed) <= batched_operations.SIZE
    french = VectorQuery(mode="keyword", text="silt", limit=MAX_WINDOW, filter=parsed(FRENCH))
    assert len(await project.search(french)) == many
    changed.clear()
    assert await project.delete_versions_except(document, {2}, at_most=3) == 3
    assert await project.delete_versions_except(document, {1}, at_most=3) == 0
    assert await project.delete_document(document) == many - 3
    assert (sum(changed), max(changed)) == (many, batched_operations.SIZE)
    assert await project.count() == 1


@pytest.mark.parametrize("size", [0, 400], ids=["small", "kept-once"])
async def test_a_name_and_a_language_are_filtered_by(project: ProjectVectors, size: int) -> None:
    """Also where a document has so much metadata that only its first chunk carries it."""
    fields: dict[str, JsonValue] = {f"field {number}": f"value {number}" for number in range(size)}
    report, letter = uuid4(), uuid4()
    await project.upsert(
        [
            chunk("ash", document_id=document, chunk_index=index, metadata=fields, name=name, language=language)
            for document, name, language in ((report, "Rapport de Zo\u00eb.pdf", "fr"), (letter, "letter.txt", None))
            for index in range(2)
        ]
    )

    async def found(**condition: Any) -> set[tuple[UUID, int]]:
        query = VectorQuery(mode="keyword", text="ash", filter=parsed(condition))
        return {(hit.document_id, hit.chunk_index) for hit in await project.search(query)}

    both_of_report, both_of_letter = {(report, 0), (report, 1)}, {(letter, 0), (letter, 1)}
    assert await found(field="name", prefix="Rapport") == both_of_report
    assert await found(field="name", eq="Rapport de Zoe\u0308.pdf") == both_of_report
    assert await found(field="name", prefix="rapport") == set()
    assert await found(field="name", ne="letter.txt") == both_of_report
    assert await found(field="name", **{"in": ["letter.txt", "another"]}) == both_of_letter
    assert await found(field="language", eq="fr") == both_of_report
    assert await found(field="language", ne="fr") == both_of_letter
    assert await found(field="language", exists=False) == both_of_letter
    # Neither is metadata, whatever metadata is called.
    assert await found(field="metadata.name", exists=True) == set()

    after = await project.set_metadata_after(None, report, fields, name="renamed.pdf", language="fr")
    assert after is None
    assert await found(field="name", prefix="Rapport") == set()
    assert await found(**{"all": [{"field": "name", "eq": "renamed.pdf"}, {"field": "language", "eq": "fr"}]}) == (
        both_of_report
    )


async def test_texts_are_compared_in_nfc(project: ProjectVectors) -> None:
    decomposed = chunk("peak", metadata={"summit": "Mont Ce\u0301zanne"})
    await project.upsert([decomposed, chunk("peak", metadata={"summit": "Mont Cezanne"})])

    async def found(**operator: JsonValue) -> list[UUID]:
        node = parsed({"field": "metadata.summit", **operator})
        return documents(await project.search(VectorQuery(mode="keyword", text="peak", filter=node)))

    for value in ("Mont C\u00e9zanne", "Mont Ce\u0301zanne"):
        assert await found(eq=value) == [decomposed.document_id]
        assert await found(prefix=value[:-5]) == [decomposed.document_id]


async def test_created_at_is_compared_as_an_instant(project: ProjectVectors) -> None:
    noon = datetime(2024, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)
    early, late = chunk("day", created_at=noon), chunk("day", created_at=noon + timedelta(hours=1))
    await project.upsert([early, late])

    async def found(**operators: str) -> set[UUID]:
        query = VectorQuery(mode="keyword", text="day", filter=parsed({"field": "created_at", **operators}))
        return set(documents(await project.search(query)))

    assert await found(eq="2024-05-01T14:00:00.25+02:00") == {early.document_id}
    assert await found(ne="2024-05-01T12:00:00.25Z") == {late.document_id}
    assert await found(gt="2024-05-01T12:00:00.25Z") == {late.document_id}
    assert await found(gte="2024-05-01", lt="2024-05-01T13:00:00Z") == {early.document_id}


SOME_ID = UUID("01a206ba-368c-70a1-aab5-da4cfdeb0a4c")


@pytest.mark.parametrize("tenant_id,project_id", [(None, SOME_ID), (SOME_ID, None), (str(SOME_ID), SOME_ID)])
async def test_a_missing_tenant_or_project_is_refused(store: VectorStore, tenant_id: UUID, project_id: UUID) -> None:
    with pytest.raises(TypeError):
        store.project(tenant_id, project_id)
    with pytest.raises(TypeError):
        store.project(UUID(int=0), uuid4())
    with pytest.raises(TypeError):
        store.tenant(UUID(int=0))


@pytest.mark.parametrize(
    "vector", [[0.0] * DIMENSIONS, [float("nan")] * DIMENSIONS, [1e39] * DIMENSIONS, [1.0] * 3, [[1.0] * DIMENSIONS]]
)
async def test_a_vector_without_direction_or_of_another_size_is_refused(
    project: ProjectVectors, vector: list[float]
) -> None:
    good = chunk()
    bad = type(good)(
        document_id=uuid4(),
        version=1,
        chunk_index=0,
        vector=vector,
        text="",
        content_type="text/plain",
        created_at=datetime.now(UTC),
    )
    with pytest.raises(InvalidPoint):
        await project.upsert([good, bad])
    with pytest.raises(InvalidPoint):
        await project.search(VectorQuery(mode="semantic", vector=vector))
    assert await project.count() == 0


async def test_a_time_without_zone_is_refused(project: ProjectVectors) -> None:
    with pytest.raises(InvalidPoint):
        await project.upsert([chunk(created_at=datetime(2024, 5, 1))])


@pytest.mark.parametrize(
    "query",
    [VectorQuery(mode="semantic", text="x"), VectorQuery(mode="keyword"), VectorQuery(mode="hybrid", text="x")],
)
async def test_a_search_names_what_it_lacks(project: ProjectVectors, query: VectorQuery) -> None:
    with pytest.raises(ValueError, match="needs its"):
        await project.search(query)


async def test_many_callers_at_once_each_get_their_own_answer(store: VectorStore) -> None:
    async def caller(number: int) -> None:
        project, document = store.project(uuid4(), uuid4()), uuid4()
        word = f"word{number}"
        for start in range(0, 60, 20):
            await project.upsert([chunk(word, document_id=document, chunk_index=start + n) for n in range(20)])
            hits = await project.search(about(word, limit=100))
            assert documents(hits) == [document] * (start + 20)
        assert await project.delete_document(document) == 60

    await asyncio.gather(*(caller(number) for number in range(24)))


async def test_a_healthy_store_says_so_and_can_flush(store: VectorStore, project: ProjectVectors) -> None:
    await project.upsert([chunk()])
    await store.flush()

    assert await store.healthy()


FRENCH: JsonValue = {"field": "metadata.lang", "eq": "fr"}
FIELDS: dict[str, JsonValue] = {f"field {number}": f"value {number}" for number in range(400)}


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ({"field": "metadata.field 399", "eq": "value 399"}, {"large", "huge"}),
        ({"field": "metadata.field 399", "ne": "value 399"}, {"small"}),
        ({"not": {"field": "metadata.field 399", "exists": True}}, {"small"}),
        ({"field": "metadata.year", "gte": 2020}, {"large", "small"}),
        ({"field": "metadata.lang", "prefix": "e"}, {"huge", "small"}),
        ({"not": {"field": "metadata.year", "lt": 2020}}, {"large", "small"}),
        ({"any": [{"field": "metadata.year", "eq": 1999}, {"field": "metadata.year", "eq": 2021}]}, {"huge", "small"}),
        (
            {"all": [{"field": "metadata.lang", "exists": True}, {"field": "metadata.field 1", "exists": True}]},
            {"huge"},
        ),
        ({"field": "metadata.field 399", "eq": "no such value"}, set()),
        ({"field": "content_type", "eq": "text/plain"}, {"large", "huge", "small"}),
    ],
)
async def test_metadata_that_is_kept_once_filters_every_chunk(
    project: ProjectVectors, condition: JsonValue, found: set[str]
) -> None:
    metadata: dict[str, dict[str, JsonValue]] = {
        "large": FIELDS | {"year": 2020},
        "huge": FIELDS | {"year": 1999, "lang": "en"},
        "small": {"year": 2021, "lang": "eo"},
    }
    ids = {name: uuid4() for name in metadata}
    await project.upsert(
        [
            chunk("granite wall", document_id=ids[name], chunk_index=index, metadata=values)
            for name, values in metadata.items()
            for index in range(3)
        ]
    )
    query = VectorQuery(mode="keyword", text="granite", filter=parsed(condition), limit=50)
    hits = await project.search(query)
    expected = {(ids[name], index) for name in found for index in range(3)}
    assert {(hit.document_id, hit.chunk_index) for hit in hits} == expected


async def test_metadata_may_grow_and_shrink_past_what_is_copied(project: ProjectVectors) -> None:
    document_id = uuid4()
    small: dict[str, JsonValue] = {"lang": "en"}
    await project.upsert(
        [chunk("granite wall", document_id=document_id, chunk_index=index, metadata=small) for index in range(3)]
    )

    async def found(field: str, value: str) -> set[int]:
        node = parsed({"field": f"metadata.{field}", "eq": value})
        return {hit.chunk_index for hit in await project.search(VectorQuery(mode="keyword", text="wall", filter=node))}

    await project.set_metadata(document_id, FIELDS)
    assert (await found("lang", "en"), await found("field 7", "value 7")) == (set(), {0, 1, 2})
    await project.set_metadata(document_id, small)
    assert (await found("lang", "en"), await found("field 7", "value 7")) == ({0, 1, 2}, set())


async def test_a_document_with_much_metadata_elsewhere_is_not_found_here(store: VectorStore) -> None:
    tenant, other, document_id = uuid4(), uuid4(), uuid4()
    here, there = store.project(tenant, uuid4()), store.project(other, uuid4())
    await there.upsert([chunk("granite", document_id=document_id, metadata=FIELDS)])
    await here.upsert([chunk("granite", document_id=document_id, chunk_index=1, metadata=FIELDS)])
    node = parsed({"field": "metadata.field 7", "eq": "value 7"})
    assert await here.search(VectorQuery(mode="keyword", text="granite", filter=node)) == []


async def test_the_vectors_of_chunks_are_read_back(store: VectorStore, project: ProjectVectors) -> None:
    document_id = uuid4()
    points = [replace(chunk(f"basalt {n}", chunk_index=n), document_id=document_id, version=3) for n in range(4)]
    await project.upsert([*points, chunk("another document", chunk_index=1, version=3)])
    version = VersionPoints(document_id, 3, 1)

    found = await project.vectors(version, [1, 3, 9], dimensions=DIMENSIONS)

    assert sorted(found) == [1, 3]
    for index, vector in found.items():
        expected = np.asarray(points[index].vector, np.float32)
        assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)
    assert await project.vectors(version, [], dimensions=DIMENSIONS) == {}
    assert await store.project(uuid4(), uuid4()).vectors(version, [1], dimensions=DIMENSIONS) == {}
