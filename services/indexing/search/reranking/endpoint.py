"""An HTTP reranker: `POST {url}/rerank` with `{"model", "query", "documents", "top_n"}`, as Cohere and Jina have it.

Queries and texts of documents leave the installation: whoever operates it names the endpoint, and each request carries
texts of one tenant only.

Guarantees: a response or an error within `timeout_seconds` of the settings, waiting for a turn and repetitions
included; at most `_AT_ONCE` requests at a time, `_EACH` of a tenant, tenants by turns. What the endpoint returns is
checked: one finite score for each text.
Fails by: RerankerUnavailable. After failures in a row a breaker answers at once, and lets one request probe. The
endpoint's own words are for operators only, in `reason`.
"""

import asyncio
import math
from collections.abc import Hashable, Sequence
from typing import Annotated, Final

import aiohttp
import tenacity
from pydantic import BaseModel, Field, ValidationError

from services.indexing.search.errors import RerankerUnavailable
from services.indexing.settings import RerankingEndpoint
from shared.circuit_breaker import Breaker, Call
from shared.errors import Unavailable
from shared.fair_semaphore import FairSemaphore
from shared.resilience import retried

_AT_ONCE: Final = 8
_EACH: Final = 4
_ATTEMPTS: Final = 2
_LONGEST_RESPONSE: Final = 4 * 2**20
_AWAY: Final = frozenset({408, 425, 500, 502, 503, 504})


class _Result(BaseModel):
    index: Annotated[int, Field(ge=0)]
    relevance_score: float


class _Response(BaseModel):
    results: list[_Result]


class _TryAgain(RerankerUnavailable):
    """It may respond to the same request."""


class EndpointReranker:
    """Made once for an application, whose HTTP client it uses."""

    def __init__(self, endpoint: RerankingEndpoint, client: aiohttp.ClientSession) -> None:
        self._endpoint = endpoint
        self._client = client
        self._requests = FairSemaphore(_AT_ONCE, each=_EACH)
        self._breaker = Breaker("reranking", most_pause=30.0, probe_seconds=endpoint.timeout_seconds)

    async def scores(self, query: str, texts: Sequence[str], *, caller: Hashable) -> list[float]:
        """How well each text answers the query: the higher, the better. Callers take turns.

        Raises:
            RerankerUnavailable: it does not respond in time, refuses, or returns something else.
        """
        seconds, clock = self._endpoint.timeout_seconds, asyncio.get_running_loop().time
        deadline = clock() + seconds

        async def attempt() -> list[float]:
            return await self._ask(query, texts, deadline)

        again = tenacity.retry_if_exception_type(_TryAgain)
        try:
            # Half of it, so that a request that waited has a chance, and says something about the endpoint.
            async with asyncio.timeout(seconds / 2):
                await self._requests.enter(caller)
            try:
                return await retried(attempt, _ATTEMPTS, again=again, first=0.05, most=0.2)
            finally:
                self._requests.leave(caller)
        except TimeoutError as error:
            raise RerankerUnavailable(f"no response in {seconds:g} s") from error
        except RerankerUnavailable:
            raise
        except Unavailable as error:  # the breaker is open, or too many wait
            raise RerankerUnavailable(error.public_detail) from error

    async def _ask(self, query: str, texts: Sequence[str], deadline: float) -> list[float]:
        with self._breaker.call() as call:
            try:
                async with asyncio.timeout_at(deadline):
                    content = await self._request(query, texts, call)
            except TimeoutError:
                call.failed()
                raise
        return await asyncio.to_thread(_scores, content, len(texts))

    async def _request(self, query: str, texts: Sequence[str], call: Call) -> bytes:
        key = self._endpoint.api_key
        headers = {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}
        body = {"model": self._endpoint.model, "query": query, "documents": list(texts), "top_n": len(texts)}
        url = f"{self._endpoint.url}/rerank"
        try:
            async with self._client.post(url, json=body, headers=headers, allow_redirects=False) as response:
                content = await _read(response)
        except aiohttp.ClientError as error:
            call.failed()
            raise _TryAgain(f"{type(error).__name__}: {error}"[:200]) from error
        if response.status == 200:
            call.succeeded()
            return content
        reason = f"status {response.status}: {content[:200].decode(errors='replace')}"
        if response.status in _AWAY:
            call.failed()
            raise _TryAgain(reason)
        call.succeeded()  # it responds: what it says is about this request, the key or the rate
        raise RerankerUnavailable(reason)


def _scores(content: bytes, count: int) -> list[float]:
    try:
        results = _Response.model_validate_json(content).results
    except ValidationError as error:
        raise RerankerUnavailable("not a reranker's response") from error
    scores = {result.index: result.relevance_score for result in results}
    if len(results) != count or scores.keys() != set(range(count)) or not all(map(math.isfinite, scores.values())):
        raise RerankerUnavailable(f"scores of {sorted(scores)[:5]}..., expected {count} finite ones")
    return [scores[index] for index in range(count)]


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for part in response.content.iter_any():
        content += part
        if len(content) > _LONGEST_RESPONSE:
            raise aiohttp.ClientPayloadError("the response is too long")
    return bytes(content)
