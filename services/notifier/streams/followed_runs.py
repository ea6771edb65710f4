"""Runs as indexing, which owns them, knows them: asked when a stream of one is opened, and told when its client leaves.

Guarantees: a run is there for a client as soon as indexing says so, whether or not its events have arrived, and no
longer than that. A tenant that opens many streams leaves places to others.
Fails by: `Unavailable` when a stream is opened; by a line in the log when a client leaves, and the run goes on.
"""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from pydantic import BaseModel, ConfigDict, ValidationError

from services.notifier.feeds.repository import FeedKey
from shared import service_client
from shared.auth import ServiceTokens
from shared.errors import NotFound, Unavailable
from shared.fair_semaphore import FairSemaphore
from shared.telemetry import current_traceparent, get_logger

_AT_ONCE = 16
_EACH = 4
_UNFINISHED = ("queued", "running")
_log = get_logger(__name__)


class FollowedRun(BaseModel):
    """What `GET /internal/projects/{id}/runs/{run}` of indexing says."""

    model_config = ConfigDict(extra="ignore")

    run: dict[str, Any]
    last_sequence: int

    @property
    def ended(self) -> bool:
        return self.run["status"] not in _UNFINISHED

    def ended_before(self, ago: timedelta) -> bool:
        """Whether it ended longer ago than that."""
        finished_at = self.run["finished_at"]
        return finished_at is not None and datetime.fromisoformat(finished_at) < datetime.now(UTC) - ago

    @property
    def ends_with_its_client(self) -> bool:
        """Whether it is to be cancelled when its client leaves."""
        return not self.ended and self.run["on_disconnect"] == "cancel"


class FollowedRuns:
    """Asks indexing, a few requests at a time."""

    def __init__(self, indexing_url: str, tokens: ServiceTokens, client: aiohttp.ClientSession) -> None:
        self._url = indexing_url.rstrip("/")
        self._tokens = tokens
        self._client = client
        self._at_once = FairSemaphore(_AT_ONCE, each=_EACH)
        self._leaving: set[asyncio.Task[None]] = set()

    async def of(self, key: FeedKey) -> FollowedRun:
        """The run of the key.

        Raises:
            NotFound: there is no such run in the project.
            Unavailable: indexing does not respond.
        """
        async with self._at_once.turn(key.tenant_id):
            try:
                status, body = await self._ask("GET", key)
                if status == 404:
                    raise NotFound
                if status != 200:
                    raise Unavailable("The indexing service cannot respond now.", retry_after=1)
                return FollowedRun.model_validate_json(body)
            except (aiohttp.ClientError, TimeoutError, ValidationError) as error:
                raise Unavailable("The indexing service cannot be reached.", retry_after=1) from error

    def left(self, key: FeedKey, user_id: uuid.UUID | None) -> None:
        """A client of this user has left the stream of the run. Does not wait."""
        task = asyncio.create_task(self._leave(key, user_id), name="leaving a run")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _leave(self, key: FeedKey, user_id: uuid.UUID | None) -> None:
        try:
            async with self._at_once.turn(key.tenant_id):
                status, _ = await self._ask(
                    "POST", key, "/left", {"user_id": None if user_id is None else str(user_id)}
                )
            if status not in (204, 404):
                _log.warning("run_not_left", run_id=str(key.feed_id), status=status)
        except (aiohttp.ClientError, TimeoutError, Unavailable) as error:
            _log.warning("run_not_left", run_id=str(key.feed_id), reason=repr(error)[:200])

    async def _ask(self, method: Any, key: FeedKey, path: str = "", body: object = None) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {await self._tokens.token('indexing', key.tenant_id)}"}
        if traceparent := current_traceparent():
            headers["traceparent"] = traceparent
        url = f"{self._url}/internal/projects/{key.project_id}/runs/{key.feed_id}{path}"
        return await service_client.ask(self._client, method, url, headers=headers, json=body)
