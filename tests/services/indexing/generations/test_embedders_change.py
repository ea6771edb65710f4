"""Another embedder is configured, with vectors of another length: projects go over to it one by one, and back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from services.indexing.main import create_app
from services.indexing.search.dependencies import SearchResources
from services.indexing.settings import IndexingSettings
from services.indexing.vectors.store import VectorStore
from shared.settings import SettingsError
from tests.services.indexing.generations.conftest import Project
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.uploads import Library
from tests.support.endpoints import EmbeddingsDouble
from tests.support.identity import IdentityDouble
from tests.support.serving import in_process, make_settings

Environment = dict[str, str]
pytestmark = pytest.mark.usefixtures("quiet_queue")
Opened = tuple[Project, VectorStore]


def endpoints(double: EmbeddingsDouble) -> Environment:
    configured = [{"name": "small", "url": double.url, "model": "m-1", "dimensions": double.dimensions}]
    return {"QUARRY_INDEXING_EMBEDDING_ENDPOINTS": orjson.dumps(configured).decode()}


CHOSEN = {"QUARRY_INDEXING_EMBEDDER": "small"}


async def test_search_goes_over_to_another_embedder_and_back(
    environment: Environment, library: Library, tokens: IdentityDouble, tmp_path: Path
) -> None:
    own = {**environment, "QUARRY_INDEXING_DATA_DIR": str(tmp_path)}

    @asynccontextmanager
    async def opened(*settings: Environment) -> AsyncIterator[Opened]:
        variables = dict(own)
        for more in settings:
            variables |= more
        async with in_process(create_app, variables) as (app, client):
            yield Project(client, tokens, library), app.resources(SearchResources).search.store

    async with EmbeddingsDouble.serving() as double:
        async with opened() as (project, _):
            documents = await project.fill(6)
            before = await project.answers()
        async with opened(endpoints(double), CHOSEN) as (project, store):
            # What was made with the bundled one is searched with it, and what is added meanwhile belongs to it.
            assert await project.answers() == before
            assert double.requests == []
            added = await library.upload("A lighthouse stands at the pier.")
            await ends(library, added)
            made = await project.reindex()
            assert (made["embedder"], made["dimensions"]) == ("small", 8)
            await project.becomes({3: "active", 2: "kept"})
            found = await project.search("lighthouse at the pier", "semantic")
            assert found[0]["document_id"] == str(added)
            vectors = store.project(library.tenant_id, library.project_id)
            assert sorted((tally.generation, tally.points) for tally in await vectors.tally()) == sorted(
                (generation, 1) for generation in (2, 3) for _ in range(7)
            )
            # Deletes and metadata reach both.
            await library.delete(documents[0])
            await library.update(documents[1], sequence=7, name="renamed.txt", metadata={"lang": "fr"})
            await project.settled()
            assert await vectors.count() == 12
            french = {"field": "metadata.lang", "eq": "fr"}
            assert len(await project.search("invoice", filter=french)) == 1
            await project.reindex("/rollback")
            await project.becomes({2: "active", 3: "kept"})
            assert len(await project.search("invoice", filter=french)) == 1
            await project.reindex()
            await project.becomes({4: "active", 2: "kept"})
        # Without the endpoint there are no vectors for queries; words are still found.
        async with opened() as (project, _):
            refused = await project.call("POST", "search", json={"query": "lighthouse", "mode": "semantic"})
            assert (refused.status_code, refused.json()["code"]) == (503, "embedder_unavailable")
            answered = await project.call("POST", "search", json={"query": "lighthouse"})
            assert (len(answered.json()["items"]), answered.json()["partial_reasons"]) == (1, ["meaning_skipped"])


@pytest.mark.parametrize(
    "value,reason",
    [
        ("{}", "EMBEDDING_ENDPOINTS: input should be a valid tuple"),
        ('[{"name": "bundled", "url": "http://nowhere", "model": "m", "dimensions": 8}]', "bundled"),
        ('[{"name": "a", "url": "nowhere", "model": "m", "dimensions": 8}]', "http or https url"),
        ('[{"name": "b", "url": "http://nowhere", "model": "m", "dimensions": 8}]', "small is not one of"),
        ('[{"name": "small", "url": "http://nowhere", "model": "m", "dimensions": 0}]', "greater than"),
    ],
)
def test_endpoints_that_cannot_be_are_refused(environment: Environment, value: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        make_settings(IndexingSettings, {**environment, **CHOSEN, "QUARRY_INDEXING_EMBEDDING_ENDPOINTS": value})


def test_endpoints_may_be_a_file_since_they_hold_keys(environment: Environment, tmp_path: Path) -> None:
    path = tmp_path / "endpoints"
    path.write_text(
        '[{"name": "small", "url": "http://nowhere/v1/", "model": "m", "dimensions": 8, "api_key": "planted"}]\n'
    )
    file = {"QUARRY_INDEXING_EMBEDDING_ENDPOINTS_FILE": str(path)}
    settings = make_settings(IndexingSettings, {**environment, **CHOSEN, **file})
    (endpoint,) = settings.embedding_endpoints
    assert endpoint.url == "http://nowhere/v1"
    assert endpoint.api_key is not None
    assert "planted" not in repr(settings)
