"""Any OpenAI-compatible endpoint as an embedder: `POST {url}/embeddings` with `{"model", "input": [...]}`.

Texts of documents leave the installation: whoever operates it names the endpoint, and each request carries texts of one
tenant only.

Guarantees: at most `_AT_ONCE` requests at a time, tenants by turns, and one background request, which begins while
nobody waits for anything. What the endpoint returns is checked: as many vectors as texts, of the right length, finite;
they are normalised. A response with `Retry-After` is waited for if that is soon.
Does not guarantee: that a text is embedded whole; the endpoint decides what to do with one longer than its model takes.
Fails by: EmbedderUnavailable. After failures in a row a breaker answers at once, and lets one request probe. The
endpoint's own words are for operators only, in `reason`.
"""

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Final

import aiohttp
import numpy as np
import tenacity
from pydantic import BaseModel, ValidationError

from services.indexing.embedders import Vectors
from services.indexing.embedders.errors import EmbedderRefused, EmbedderUnavailable
from services.indexing.settings import EmbeddingEndpoint
from services.indexing.work_priority import BackgroundWork, UrgentWork
from shared.circuit_breaker import Breaker, Call
from shared.fair_semaphore import FairSemaphore
from shared.resilience import retried

_AT_ONCE: Final = 8
_EACH: Final = 4
_ATTEMPTS: Final = 3
_QUERY_SECONDS: Final = 3.0
"""A search has five in all."""
_LONGEST_WAIT: Final = 10.0
"""A longer `Retry-After` is left to whoever asked: a job is postponed, a search answered 503."""
_LONGEST_RESPONSE: Final = 64 * 2**20
_AWAY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_ABOUT_THE_TEXTS: Final = frozenset({400, 413, 422})


class _Embedding(BaseModel):
    index: int
    embedding: list[float]


class _Response(BaseModel):
    data: list[_Embedding]


class _TryAgain(EmbedderUnavailable):
    """It may respond to the same request in `retry_after` seconds."""


class EndpointEmbedder:
    """An `Embedder`. The HTTP client is the application's."""

    def __init__(self, endpoint: EmbeddingEndpoint, client: aiohttp.ClientSession, urgent: UrgentWork) -> None:
        self._endpoint = endpoint
        self._client = client
        self._urgent = urgent
        self._background = BackgroundWork(urgent)
        self._requests = FairSemaphore(_AT_ONCE, each=_EACH)
        self._background_requests = FairSemaphore(1)
        self._breaker = Breaker("embedding", most_pause=30.0, probe_seconds=endpoint.timeout_seconds)

    @property
    def name(self) -> str:
        return self._endpoint.name

    @property
    def dimensions(self) -> int:
        return self._endpoint.dimensions

    async def embed(self, texts: Sequence[str], *, caller: Hashable, background: bool = False) -> Vectors:
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        batch, prefix = self._endpoint.batch, self._endpoint.passage_prefix

        async def fill(first: int) -> None:
            part = [prefix + text for text in texts[first : first + batch]]
            async with self._turn(caller, background=background):
                vectors[first : first + len(part)] = await self._ask(part)

        with nullcontext() if background else self._urgent.under_way():
            parts = [asyncio.create_task(fill(first)) for first in range(0, len(texts), batch)]
            try:
                await asyncio.gather(*parts)
            finally:
                for part in parts:
                    part.cancel()
        return vectors

    async def embed_query(self, text: str, *, caller: Hashable) -> Vectors:
        with self._urgent.under_way():
            try:
                async with asyncio.timeout(_QUERY_SECONDS), self._requests.turn(caller):
                    (vector,) = await self._ask([self._endpoint.query_prefix + text])
            except TimeoutError as error:
                raise EmbedderUnavailable(f"{self.name}: no response to a query in {_QUERY_SECONDS} s") from error
        found: Vectors = vector
        return found

    def close(self) -> None:
        """Nothing: the client is closed by its owner."""

    @asynccontextmanager
    async def _turn(self, caller: Hashable, *, background: bool) -> AsyncIterator[None]:
        if background:
            async with self._background_requests.turn(caller), self._background.piece():
                yield
        else:
            async with self._requests.turn(caller):
                yield

    async def _ask(self, texts: Sequence[str]) -> Vectors:
        async def attempt() -> Vectors:
            try:
                with self._breaker.call() as call:
                    return await self._request(texts, call)
            except _TryAgain as error:
                await asyncio.sleep(error.retry_after or 0)
                raise

        again = tenacity.retry_if_exception_type(_TryAgain)
        return await retried(attempt, _ATTEMPTS, again=again, first=0.1, most=1.0)

    async def _request(self, texts: Sequence[str], call: Call) -> Vectors:
        key = self._endpoint.api_key
        headers = {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}
        body = {"model": self._endpoint.model, "input": list(texts), "encoding_format": "float"}
        url = f"{self._endpoint.url}/embeddings"
        try:
            async with (
                asyncio.timeout(self._endpoint.timeout_seconds),
                self._client.post(url, json=body, headers=headers, allow_redirects=False) as response,
            ):
                content = await _read(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            call.failed()
            raise _TryAgain(f"{self.name}: {type(error).__name__}: {error}"[:200], retry_after=0) from error
        if response.status in _AWAY and response.status != 429:
            call.failed()
        else:
            call.succeeded()  # it responds: what it says is about this request, the key or the rate
        if response.status != 200:
            raise self._refusal(response, content)
        return await asyncio.to_thread(self._vectors, content, len(texts))

    def _refusal(self, response: aiohttp.ClientResponse, content: bytes) -> EmbedderUnavailable:
        reason = f"{self.name}: status {response.status}: {content[:200].decode(errors='replace')}"
        if response.status in _ABOUT_THE_TEXTS:
            return EmbedderRefused(reason)
        if response.status not in _AWAY:
            return EmbedderUnavailable(reason, retry_after=_LONGEST_WAIT)
        wait = _retry_after(response)
        return (_TryAgain if wait <= _LONGEST_WAIT else EmbedderUnavailable)(reason, retry_after=wait)

    def _vectors(self, content: bytes, count: int) -> Vectors:
        try:
            data = _Response.model_validate_json(content).data
        except ValidationError as error:
            raise EmbedderUnavailable(f"{self.name}: not an embeddings response") from error
        rows = [item.embedding for item in sorted(data, key=lambda item: item.index)]
        if len(rows) != count or any(len(row) != self.dimensions for row in rows):
            shape = f"{len(rows)} vectors of {sorted({len(row) for row in rows})[:3]} numbers"
            raise EmbedderUnavailable(f"{self.name}: {shape}, expected {count} of {self.dimensions}")
        vectors = np.array(rows, np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or not lengths.all():
            raise EmbedderUnavailable(f"{self.name}: a vector that has no direction")
        unit: Vectors = vectors / lengths
        return unit


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for part in response.content.iter_any():
        content += part
        if len(content) > _LONGEST_RESPONSE:
            raise aiohttp.ClientPayloadError("the response is too long")
    return bytes(content)


def _retry_after(response: aiohttp.ClientResponse) -> float:
    """Seconds; a date (RFC 9110, section 10.2.3) is taken as soon, for clocks differ."""
    said = response.headers.get("Retry-After", "")
    return float(said) if said.isdecimal() else 0.0
