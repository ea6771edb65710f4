"""An OpenAI-compatible endpoint on loopback, whose vectors follow the words of a text."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from numpy.typing import NDArray

from tests.support.serving import serve


@dataclass
class EmbeddingsDouble:
    """`requests` are the bodies that came, `keys` their credentials; `answer` takes the place of the usual one."""

    dimensions: int = 8
    url: str = ""
    delay: float = 0.0
    answer: Callable[[list[str]], Response] | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0
    _failures: list[tuple[int, Mapping[str, str]]] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def serving(cls, dimensions: int = 8) -> AsyncIterator["EmbeddingsDouble"]:
        double = cls(dimensions)
        async with serve(double._app()) as url:
            double.url = f"{url}/v1"
            yield double

    def fail(self, status: int, *, times: int, headers: Mapping[str, str] | None = None) -> None:
        """Answer the next requests with an error."""
        self._failures += [(status, headers or {})] * times

    def unit(self, text: str) -> NDArray[np.float32]:
        total = np.zeros(self.dimensions, np.float64)
        for word in text.lower().split():
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
            total += np.random.default_rng(seed).standard_normal(self.dimensions)
        unit: NDArray[np.float32] = (total / np.linalg.norm(total)).astype(np.float32)
        return unit

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/embeddings")
        async def embeddings(request: Request) -> Response:
            body = await request.json()
            self.requests.append(body)
            self.keys.append(request.headers.get("Authorization"))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            try:
                await asyncio.sleep(self.delay)
            finally:
                self._at_once -= 1
            if self._failures:
                status, headers = self._failures.pop(0)
                return JSONResponse({"error": "planted words"}, status_code=status, headers=dict(headers))
            if self.answer is not None:
                return self.answer(body["input"])
            data = [
                {"object": "embedding", "index": index, "embedding": (3 * self.unit(text)).tolist()}
                for index, text in enumerate(body["input"])
            ]
            # In no particular order: the index says which is which.
            return JSONResponse({"object": "list", "data": data[::-1], "model": body["model"]})

        return app
