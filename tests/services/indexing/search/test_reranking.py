"""An HTTP reranker: what is sent, what is accepted, and what a search does with it, and without it."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import aiohttp
import httpx
import orjson
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from services.indexing.documents.repository import Passage
from services.indexing.search import cursors, service
from services.indexing.search.dependencies import SearchResources
from services.indexing.search.errors import RerankerUnavailable
from services.indexing.search.live_hits import MAX_PAGE_BYTES, Page, Ranking
from services.indexing.search.reranking import order
from services.indexing.search.reranking.endpoint import EndpointReranker
from services.indexing.search.schemas import SearchRequest
from services.indexing.settings import IndexingSettings, RerankingEndpoint
from services.indexing.vectors.points import Hit
from shared.auth import ALL_SCOPES, Principal, PrincipalKind
from shared.deferred_parsing import Unparsed
from shared.settings import SettingsError
from tests.services.indexing.conftest import Environment
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.uploads import Library
from tests.support.polling import eventually
from tests.support.serving import StartedApp, serve

Running = tuple[StartedApp, httpx.AsyncClient]
Results = Callable[[list[str]], object]


def by_length(texts: list[str]) -> object:
    """The longer, the better; in no particular order, since the index says which is which."""
    results = [{"index": index, "relevance_score": len(text) / 100} for index, text in enumerate(texts)]
    return {"results": results[::-1], "id": "1", "meta": {}}


@dataclass
class RerankerDouble:
    """`requests` are the bodies that came, `keys` their credentials; `statuses` are answered first."""

    url: str = ""
    results: Results = by_length
    statuses: list[int] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/rerank")
        async def rerank(request: Request) -> Response:
            body = await request.json()
            self.requests.append(body)
            self.keys.append(request.headers.get("Authorization"))
            await self.go.wait()
            if self.statuses:
                return JSONResponse({"error": "planted words"}, self.statuses.pop(0))
            return Response(orjson.dumps(self.results(body["documents"])), media_type="application/json")

        return app

    async def asked(self, times: int) -> bool:
        return len(self.requests) == times


@pytest.fixture
async def double() -> AsyncIterator[RerankerDouble]:
    double = RerankerDouble()
    async with serve(double.app()) as url:
        double.url = f"{url}/v1"
        double.go.set()
        yield double
        double.go.set()


@asynccontextmanager
async def reranker(double: RerankerDouble, **options: Any) -> AsyncIterator[EndpointReranker]:
    settings = RerankingEndpoint.model_validate({"url": double.url, "model": "m-1", **options})
    async with aiohttp.ClientSession() as client:
        yield EndpointReranker(settings, client)


# --- the endpoint ----------------------------------------------------------------------------------------------------


async def test_texts_are_sent_and_each_gets_its_score(double: RerankerDouble) -> None:
    async with reranker(double, api_key="secret") as remote:
        assert await remote.scores("granite", ["aaa", "a", "aa"], caller=None) == [0.03, 0.01, 0.02]
    assert double.requests == [{"model": "m-1", "query": "granite", "documents": ["aaa", "a", "aa"], "top_n": 3}]
    assert double.keys == ["Bearer secret"]


@pytest.mark.parametrize(
    "results",
    [
        {"results": [{"index": 0, "relevance_score": 1.0}]},
        {"results": [{"index": 0, "relevance_score": 1.0}] * 2},
        {"results": [{"index": index, "relevance_score": 1.0} for index in (0, 2)]},
        {"results": [{"index": index, "relevance_score": "much"} for index in (0, 1)]},
        {"results": [{"index": index, "relevance_score": 1e999 if index else 1.0} for index in (0, 1)]},
        {"results": [{"index": -1, "relevance_score": 1.0}, {"index": 0, "relevance_score": 1.0}]},
        {"data": []},
        [],
    ],
)
async def test_anything_but_a_score_for_each_text_is_refused(double: RerankerDouble, results: object) -> None:
    double.results = lambda _: results
    async with reranker(double) as remote:
        with pytest.raises(RerankerUnavailable):
            await remote.scores("granite", ["a", "b"], caller=None)


async def test_what_is_away_for_a_moment_is_asked_again_and_a_refusal_is_not(double: RerankerDouble) -> None:
    async with reranker(double) as remote:
        double.statuses = [503]
        assert await remote.scores("granite", ["a"], caller=None) == [0.01]
        for status in (400, 401, 429):
            double.statuses = [status]
            with pytest.raises(RerankerUnavailable) as raised:
                await remote.scores("granite", ["a"], caller=None)
            assert "planted" in raised.value.reason
            assert "planted" not in raised.value.public_detail
    assert len(double.requests) == 5


async def test_a_silent_endpoint_is_given_up_and_then_left_alone(double: RerankerDouble) -> None:
    double.go.clear()
    async with reranker(double, timeout_seconds=0.05) as remote:
        for _ in range(8):
            with pytest.raises(RerankerUnavailable):
                await remote.scores("granite", ["a"], caller=None)
    assert len(double.requests) == 5


async def test_a_tenant_that_asks_much_leaves_others_their_turn(double: RerankerDouble) -> None:
    double.go.clear()
    async with reranker(double, timeout_seconds=4) as remote:
        flood = [asyncio.create_task(remote.scores("busy", ["a"], caller="busy")) for _ in range(9)]
        await eventually(lambda: double.asked(4), within=10)
        one = asyncio.create_task(remote.scores("other", ["a"], caller="other"))
        await eventually(lambda: double.asked(5), within=10)
        assert double.requests[-1]["query"] == "other"
        double.go.set()
        await asyncio.gather(one, *flood)


# --- pages -----------------------------------------------------------------------------------------------------------


class Ranked:
    """A ranking of so many passages, each a document of its own."""

    def __init__(self, number: int, *, size: int = 10) -> None:
        documents = [uuid.UUID(int=index + 1) for index in range(number)]
        self.hits = [
            (
                Hit(document, document, 1, 1, 0, 1.0),
                Passage(document, 1, 0, "x" * size, None, None, "name", None, "{}"),
            )
            for document in documents
        ]

    async def page(self, shown: Any, limit: int) -> Page:
        fresh = [hit for hit in self.hits if cursors.mark(hit[0]) not in shown]
        return Page(fresh[:limit], more=len(fresh) > limit)

    def numbers(self, page: Page) -> list[int]:
        return [hit.document_id.int for hit, _ in page.hits]

    async def pages(self, known: dict[int, float], limit: int) -> list[list[int]]:
        found: list[list[int]] = []
        shown: frozenset[int] = frozenset()
        while True:
            page = await order.page(cast(Ranking, self), known, shown, limit)
            found.append(self.numbers(page))
            shown |= {cursors.mark(hit) for hit, _ in page.hits}
            if not page.more:
                return found


def scored(ranked: Ranked, numbers: Sequence[int]) -> dict[int, float]:
    """The last of them is the best."""
    marks = {hit.document_id.int: cursors.mark(hit) for hit, _ in ranked.hits}
    return {marks[number]: float(place) for place, number in enumerate(numbers)}


async def test_pages_follow_the_scores_and_then_the_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "RERANKED", 4)
    ranked = Ranked(7)
    known = scored(ranked, [2, 1, 4, 3])
    assert await ranked.pages(known, 3) == [[3, 4, 1], [2, 5, 6], [7]]
    assert await ranked.pages(known, 4) == [[3, 4, 1, 2], [5, 6, 7]]
    assert await ranked.pages(known, 10) == [[3, 4, 1, 2, 5, 6, 7]]
    assert await Ranked(4).pages(known, 4) == [[3, 4, 1, 2]]
    # One that came meanwhile has no score: it waits for its place in the ranking.
    assert await ranked.pages(scored(ranked, [2, 4, 3]), 4) == [[3, 4, 2, 1], [5, 6, 7]]
    assert await Ranked(0).pages({}, 3) == [[]]


async def test_equal_scores_stay_as_they_were_ranked_and_pages_stay_small() -> None:
    ranked = Ranked(3, size=MAX_PAGE_BYTES // 2)
    equal = dict.fromkeys(scored(ranked, [1, 2, 3]), 0.5)
    assert await ranked.pages(equal, 3) == [[1], [2], [3]]


# --- a search --------------------------------------------------------------------------------------------------------

TEXTS = ("Granite.", "Granite built the wall.", "Granite is cut in the eastern quarry, and shipped.")


async def searched(running: Running, library: Library, remote: EndpointReranker, **options: Any) -> dict[str, Any]:
    engine = replace(running[0].resources(SearchResources).search, reranker=remote)
    owner = Principal(PrincipalKind.API_KEY, "owner", uuid.uuid4(), library.tenant_id, "owner", ALL_SCOPES)
    request = Unparsed(orjson.dumps({"query": "granite", "mode": "keyword", **options}), SearchRequest)
    found: dict[str, Any] = orjson.loads(
        await service.search(engine, owner, project_id=library.project_id, request=request)
    )
    return found


async def test_a_search_is_reranked_on_request_and_says_so(
    running: Running, library: Library, double: RerankerDouble
) -> None:
    documents = [await library.upload(text) for text in TEXTS]
    for document_id in documents:
        await ends(library, document_id)
    async with reranker(double) as remote:
        plain = await searched(running, library, remote)
        assert (plain["reranked"], double.requests) == (False, [])
        found = await searched(running, library, remote, rerank=True, limit=2)
        assert (found["reranked"], [item["text"] for item in found["items"]]) == (True, [TEXTS[2], TEXTS[1]])
        last = await searched(running, library, remote, rerank=True, limit=2, cursor=found["next_cursor"])
        assert ([item["text"] for item in last["items"]], last["next_cursor"]) == ([TEXTS[0]], None)
        assert sorted(double.requests[0]["documents"]) == sorted(TEXTS)
        grouped = await searched(running, library, remote, rerank=True, group_by="document")
        assert [item["text"] for item in grouped["items"]] == [TEXTS[2], TEXTS[1], TEXTS[0]]
        # Without it the search is what it would have been.
        double.statuses = [400]
        away = await searched(running, library, remote, rerank=True)
        assert (away["reranked"], away["items"]) == (False, plain["items"])
        assert (away["partial"], away["partial_reasons"]) == (True, ["rerank_skipped"])
        # What is deleted while it is asked is not shown.
        double.go.clear()
        waiting = asyncio.create_task(searched(running, library, remote, rerank=True))
        await eventually(lambda: double.asked(5), within=10)
        await library.delete(documents[2])
        double.go.set()
        assert [item["text"] for item in (await waiting)["items"]] == [TEXTS[1], TEXTS[0]]
        nothing = await searched(running, library, remote, rerank=True, query="zeppelin")
        assert (nothing["items"], nothing["next_cursor"], nothing["reranked"]) == ([], None, True)


@pytest.mark.parametrize(
    "value", ["{nope sk-canary", "[]", '{"url": "file:///x", "model": "m"}', '{"url": "http://x"}']
)
def test_a_reranker_that_cannot_be_is_refused(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    for name, given in {**environment, "QUARRY_INDEXING_RERANKER": value}.items():
        monkeypatch.setenv(name, given)
    with pytest.raises(SettingsError) as raised:
        IndexingSettings.load()
    assert "canary" not in str(raised.value)


def test_a_reranker_is_named_in_the_settings(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    value = '{"url": "https://rerank.example.com/v1/", "model": "m-1", "api_key": "sk-canary"}'
    for name, given in {**environment, "QUARRY_INDEXING_RERANKER": value}.items():
        monkeypatch.setenv(name, given)
    settings = IndexingSettings.load()
    assert settings.reranker is not None
    assert settings.reranker.url == "https://rerank.example.com/v1"
    assert "canary" not in repr(settings)
