"""One OpenAPI document for the whole product, put together from what the services publish.

Fetched on request, kept for `KEEP_SECONDS`. While a service is down, the last document it gave is used. A service that
has not responded since the start makes the document unavailable: half of it would pass for all.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import orjson

from services.gateway.openapi.merge import Document, merge
from services.gateway.openapi.page import render
from services.gateway.settings import GatewaySettings
from services.gateway.upstreams.upstream import Upstream
from shared.errors import Unavailable
from shared.telemetry import get_logger
from shared.topology import Backend

KEEP_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 2.0
FETCH_SECONDS: Final = 5.0

_log = get_logger(__name__)


class ProductDocument:
    """The merged document and the page made of it. Made in the lifespan."""

    def __init__(self, settings: GatewaySettings, upstreams: Mapping[Backend, Upstream]) -> None:
        self._public_url = settings.public_url
        self._upstreams = upstreams
        self._known: dict[Backend, Document] = {}
        self._merged = b""
        self._page = b""
        self._next_fetch = float("-inf")
        self._lock = asyncio.Lock()

    async def json(self) -> bytes:
        """The document.

        Raises:
            Unavailable: a service has not responded yet.
        """
        await self._refresh()
        return self._merged

    async def page(self) -> bytes:
        """The document as a page for people; HTML that needs nothing else. Raises as `json`."""
        await self._refresh()
        return self._page

    async def _refresh(self) -> None:
        if time.monotonic() >= self._next_fetch:
            async with self._lock:
                if time.monotonic() >= self._next_fetch:
                    await self._fetch_all()
        if missing := [name for name in self._upstreams if name not in self._known]:
            raise Unavailable(f"Services not started yet: {', '.join(missing)}.", retry_after=RETRY_SECONDS)

    async def _fetch_all(self) -> None:
        found = await asyncio.gather(*(self._fetch(upstream) for upstream in self._upstreams.values()))
        fresh = {name: document for name, document in zip(self._upstreams, found, strict=True) if document}
        # Also while half of it is missing: any client may ask, as often as it likes.
        self._next_fetch = time.monotonic() + (KEEP_SECONDS if len(fresh) == len(found) else RETRY_SECONDS)
        self._known.update(fresh)
        if len(self._known) == len(self._upstreams):
            merged = merge({name: self._known[name] for name in self._upstreams}, public_url=self._public_url)
            self._merged = orjson.dumps(merged)
            self._page = render(merged)

    async def _fetch(self, upstream: Upstream) -> Document | None:
        try:
            async with upstream.own.get(
                f"{upstream.url}/openapi.json", timeout=aiohttp.ClientTimeout(total=FETCH_SECONDS)
            ) as answer:
                answer.raise_for_status()
                document: Any = orjson.loads(await answer.read())
        except (aiohttp.ClientError, OSError, orjson.JSONDecodeError) as error:
            _log.warning("openapi_not_fetched", upstream=upstream.name, reason=str(error)[:200])
            return None
        return document if isinstance(document, dict) else None
