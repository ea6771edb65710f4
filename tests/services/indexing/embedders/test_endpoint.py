"""An OpenAI-compatible endpoint as the embedder: what is sent, what is accepted, and what happens when it fails."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest
from fastapi import Response
from fastapi.responses import JSONResponse

from services.indexing.embedders import Embedder
from services.indexing.embedders.endpoint import EndpointEmbedder
from services.indexing.embedders.errors import EmbedderRefused, EmbedderUnavailable
from services.indexing.settings import EmbeddingEndpoint
from services.indexing.work_priority import UrgentWork
from shared.errors import Unavailable
from tests.support.endpoints import EmbeddingsDouble

Answer = Callable[[list[str]], Response]


@asynccontextmanager
async def embedder(double: EmbeddingsDouble, **options: Any) -> AsyncIterator[EndpointEmbedder]:
    settings = {"name": "small", "url": double.url, "model": "m-1", "dimensions": double.dimensions, **options}
    async with aiohttp.ClientSession() as client:
        yield EndpointEmbedder(EmbeddingEndpoint.model_validate(settings), client, UrgentWork())


@pytest.fixture
async def double() -> AsyncIterator[EmbeddingsDouble]:
    async with EmbeddingsDouble.serving() as served:
        yield served


async def test_texts_are_sent_in_batches_and_come_back_in_order(double: EmbeddingsDouble) -> None:
    texts = [f"text number {number}" for number in range(10)]
    async with embedder(double, batch=4, api_key="secret", passage_prefix="passage: ") as remote:
        typed: Embedder = remote
        vectors = await typed.embed(texts, caller=None)
        assert (typed.name, typed.dimensions) == ("small", double.dimensions)
    assert vectors.shape == (10, double.dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.allclose(vectors[7], double.unit("passage: text number 7"))
    assert sorted(len(request["input"]) for request in double.requests) == [2, 4, 4]
    assert {request["model"] for request in double.requests} == {"m-1"}
    assert double.keys == ["Bearer secret"] * 3


async def test_a_query_has_its_own_prefix(double: EmbeddingsDouble) -> None:
    async with embedder(double, query_prefix="query: ") as remote:
        vector = await remote.embed_query("granite", caller=None)
    assert np.allclose(vector, double.unit("query: granite"))
    assert double.keys == [None]


async def test_no_texts_are_no_requests(double: EmbeddingsDouble) -> None:
    async with embedder(double) as remote:
        assert (await remote.embed([], caller=None)).shape == (0, double.dimensions)
    assert double.requests == []


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_response_that_may_pass_is_asked_for_again(double: EmbeddingsDouble, status: int) -> None:
    double.fail(status, times=2, headers={"Retry-After": "0"})
    async with embedder(double) as remote:
        assert (await remote.embed(["text"], caller=None)).shape == (1, double.dimensions)
    assert len(double.requests) == 3


async def test_it_waits_as_long_as_it_is_told(double: EmbeddingsDouble) -> None:
    double.fail(429, times=1, headers={"Retry-After": "1"})
    clock = asyncio.get_running_loop().time
    async with embedder(double) as remote:
        began = clock()
        await remote.embed(["text"], caller=None)
        assert clock() - began >= 1


async def test_a_longer_wait_is_left_to_whoever_asked(double: EmbeddingsDouble) -> None:
    double.fail(429, times=9, headers={"Retry-After": "90"})
    async with embedder(double) as remote:
        with pytest.raises(EmbedderUnavailable) as refused:
            await remote.embed(["text"], caller=None)
    assert refused.value.retry_after == 90
    assert len(double.requests) == 1


@pytest.mark.parametrize("status,error", [(400, EmbedderRefused), (422, EmbedderRefused), (401, EmbedderUnavailable)])
async def test_a_refusal_is_not_repeated_and_its_words_are_for_operators(
    double: EmbeddingsDouble, status: int, error: type[EmbedderUnavailable]
) -> None:
    double.fail(status, times=9)
    async with embedder(double) as remote:
        with pytest.raises(EmbedderUnavailable) as refused:
            await remote.embed(["text"], caller=None)
    assert type(refused.value) is error
    assert "planted words" in refused.value.reason
    assert "planted" not in refused.value.public_detail
    assert len(double.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"data": []},
        {"data": [{"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [0.0] * 8}]},
        {"data": [{"index": 0, "embedding": ["x"] * 8}]},
        {"error": "none"},
    ],
)
async def test_a_response_that_is_not_what_was_asked_for_is_not_used(double: EmbeddingsDouble, body: Any) -> None:
    double.answer = lambda _texts: JSONResponse(body)
    async with embedder(double) as remote:
        with pytest.raises(EmbedderUnavailable):
            await remote.embed(["text"], caller=None)


async def test_an_endpoint_that_does_not_respond_is_left_alone_for_a_while(double: EmbeddingsDouble) -> None:
    double.fail(503, times=99, headers={"Retry-After": "0"})
    async with embedder(double) as remote:
        for _ in range(3):
            with pytest.raises(Unavailable):
                await remote.embed(["text"], caller=None)
        asked = len(double.requests)
        with pytest.raises(Unavailable):
            await remote.embed(["text"], caller=None)
        assert len(double.requests) == asked < 9


async def test_a_redirect_is_not_followed(double: EmbeddingsDouble) -> None:
    double.fail(307, times=1, headers={"Location": f"{double.url}/embeddings?again"})
    async with embedder(double, api_key="secret") as remote:
        with pytest.raises(EmbedderUnavailable):
            await remote.embed(["text"], caller=None)
    assert len(double.requests) == 1


async def test_a_slow_endpoint_is_given_up_on(double: EmbeddingsDouble) -> None:
    double.delay = 5.0
    async with embedder(double, timeout_seconds=0.05) as remote:
        with pytest.raises(EmbedderUnavailable):
            await remote.embed(["text"], caller=None)


async def test_tenants_take_turns_and_none_has_all_places(double: EmbeddingsDouble) -> None:
    double.delay = 0.1
    flood, other = uuid.uuid4(), uuid.uuid4()
    async with embedder(double, batch=1) as remote:
        flooding = asyncio.create_task(remote.embed([f"flood {n}" for n in range(24)], caller=flood))
        await asyncio.sleep(0.02)
        await remote.embed(["other"], caller=other)
        assert not flooding.done()
        assert sum("flood" in request["input"][0] for request in double.requests) <= 12
        await flooding
    assert double.most_at_once <= 8


async def test_background_texts_are_embedded_one_request_at_a_time(double: EmbeddingsDouble) -> None:
    double.delay = 0.02
    async with embedder(double, batch=1) as remote:
        await remote.embed([f"text {n}" for n in range(4)], caller=None, background=True)
    assert double.most_at_once == 1
