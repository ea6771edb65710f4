"""Projects and documents as their owner lists them, asked for with the rights of the caller at hand.

Guarantees: what is listed is what the caller would get from the public API. A tenant has at most `_ASKED_EACH` such
requests under way, and they take turns. Each ends within `_SECONDS`.
Fails by: `NotFound`, `Forbidden` and `InvalidRequest` as the public API, `Unavailable` when the owner or identity does
not respond.
"""

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson

from shared import service_client
from shared.auth import Principal
from shared.delegation import Delegation
from shared.errors import Forbidden, InvalidRequest, NotFound, Unavailable
from shared.fair_semaphore import FairSemaphore

_ASKED_AT_ONCE: Final = 16
_ASKED_EACH: Final = 4
_ASKED_WAITING: Final = 64
_SECONDS: Final = 3 * service_client.WITHIN_SECONDS
_REFUSALS: Final[Mapping[int, type[Forbidden | NotFound]]] = {403: Forbidden, 404: NotFound}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at hand: the principal, and the token its request came with."""

    principal: Principal
    token: str


class ProjectsClient:
    """Asks the projects service. Made once for an application."""

    def __init__(self, projects_url: str, delegation: Delegation, client: aiohttp.ClientSession) -> None:
        self._url = projects_url.rstrip("/")
        self._delegation = delegation
        self._client = client
        self._asking = FairSemaphore(_ASKED_AT_ONCE, each=_ASKED_EACH, waiting=_ASKED_WAITING)

    async def projects(self, caller: Caller, **query: str | int | None) -> dict[str, Any]:
        """A page of `GET /v1/projects`."""
        return await self._page(caller, "/v1/projects", query)

    async def documents(self, caller: Caller, project_id: uuid.UUID, **query: str | int | None) -> dict[str, Any]:
        """A page of `GET /v1/projects/{project_id}/documents`."""
        return await self._page(caller, f"/v1/projects/{project_id}/documents", query)

    async def _page(self, caller: Caller, path: str, query: Mapping[str, str | int | None]) -> dict[str, Any]:
        params = {name: str(value) for name, value in query.items() if value is not None}
        try:
            async with asyncio.timeout(_SECONDS), self._asking.turn(caller.principal.tenant_id):
                token = await self._delegation.token(caller.token, "projects")
                status, body = await service_client.ask(
                    self._client,
                    "GET",
                    f"{self._url}{path}",
                    params=params,
                    headers={"Authorization": f"Bearer {token}"},
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("The projects service cannot be reached.", retry_after=1) from error
        if status in _REFUSALS:
            raise _REFUSALS[status]
        if status in (400, 422):
            raise InvalidRequest(orjson.loads(body)["detail"])
        if status != 200:
            raise Unavailable("The projects service cannot respond now.", retry_after=1)
        page: dict[str, Any] = orjson.loads(body)
        return page
