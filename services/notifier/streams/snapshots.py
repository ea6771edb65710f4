"""Running jobs as indexing knows them, for clients that have just connected.

Guarantees: a snapshot is taken after it is requested; clients of one project that ask at about the same time share
one request; no client waits much longer than `seconds`; a tenant with many projects leaves places to others.
Fails by: an incomplete snapshot. Progress then comes with the next ticks.
"""

import asyncio
import uuid
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
from pydantic import BaseModel, ConfigDict, ValidationError

from services.notifier.feeds.repository import FeedKey
from shared import service_client
from shared.auth import ServiceTokens
from shared.errors import Unavailable
from shared.events.indexing import Stage
from shared.fair_semaphore import FairSemaphore
from shared.telemetry import current_traceparent, get_logger

_AT_ONCE = 8
_EACH = 4
_log = get_logger(__name__)


class RunningJob(BaseModel):
    """What `GET /v1/projects/{id}/progress` of indexing says of one job."""

    model_config = ConfigDict(extra="ignore")

    job_id: uuid.UUID
    document_id: uuid.UUID
    version: int
    stage: Stage
    percent: int
    done: int
    total: int
    unit: Literal["bytes", "pages", "chunks"]


class _Progress(BaseModel):
    jobs: list[RunningJob]


@dataclass(frozen=True, slots=True)
class Snapshot:
    jobs: tuple[dict[str, Any], ...]
    complete: bool


UNKNOWN = Snapshot(jobs=(), complete=False)


class Snapshots:
    """Asks indexing, a few requests at a time."""

    def __init__(self, indexing_url: str, tokens: ServiceTokens, client: aiohttp.ClientSession, *, seconds: float):
        self._url = indexing_url.rstrip("/")
        self._tokens = tokens
        self._client = client
        self._seconds = seconds
        self._at_once = FairSemaphore(_AT_ONCE, each=_EACH)
        self._not_begun: dict[FeedKey, asyncio.Task[Snapshot]] = {}

    async def of(self, key: FeedKey) -> Snapshot:
        """Running jobs of a project. Indexing has no snapshot of a whole tenant: that one is always incomplete."""
        if key.is_tenant_wide or key.is_run:
            return UNKNOWN
        task = self._not_begun.get(key)
        if task is None:
            task = self._not_begun[key] = asyncio.create_task(self._ask(key))
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.shield(task)
        except TimeoutError:
            return UNKNOWN

    async def _ask(self, key: FeedKey) -> Snapshot:
        async with self._at_once.turn(key.tenant_id):
            # From here on the response may be older than the next request.
            del self._not_begun[key]
            try:
                async with asyncio.timeout(self._seconds):
                    jobs = await self._fetch(key)
            except (aiohttp.ClientError, TimeoutError, Unavailable, ValidationError) as error:
                _log.warning("snapshot_incomplete", project_id=str(key.feed_id), reason=repr(error)[:200])
                return UNKNOWN
        return Snapshot(tuple(job.model_dump(mode="json") for job in jobs), complete=True)

    async def _fetch(self, key: FeedKey) -> list[RunningJob]:
        headers = {"Authorization": f"Bearer {await self._tokens.token('indexing', key.tenant_id)}"}
        if traceparent := current_traceparent():
            headers["traceparent"] = traceparent
        url = f"{self._url}/internal/projects/{key.feed_id}/progress"
        status, body = await service_client.ask(self._client, "GET", url, headers=headers)
        if status != 200:
            raise Unavailable
        return _Progress.model_validate_json(body).jobs
