"""What a caller's credential allows now, for a service whose work outlives the token it began with; identity is asked.

A token says what was true when it was issued. Longer work, such as an upload, checks again right before it takes
effect. Services also check here whether users are members of a tenant.

Guarantees: results come from identity's own rows, read after the caller asked, never from a cache or a projection.
Questions about one credential that arrive while another one is under way are put together, once that one has ended.
Fails by: `Unavailable`; the work must not take effect then.
"""

import asyncio
import uuid
from collections.abc import Collection
from typing import Any, Final, NamedTuple

import aiohttp
import orjson

from shared import service_client
from shared.auth import Principal, ServiceTokens, principal_from
from shared.errors import NotFound, Unauthenticated, Unavailable

MOST_ASKED: Final = 500


class _Asked(NamedTuple):
    tenant_id: uuid.UUID
    kind: str
    credential_id: uuid.UUID


class Authority:
    """Asks identity on behalf of one service."""

    def __init__(self, identity_url: str, tokens: ServiceTokens, client: aiohttp.ClientSession) -> None:
        self._url = identity_url.rstrip("/")
        self._tokens = tokens
        self._client = client
        # By credential: the question under way, and the next one, which has not been sent.
        self._asking: dict[_Asked, asyncio.Task[dict[str, Any]]] = {}
        self._next: dict[_Asked, asyncio.Task[dict[str, Any]]] = {}

    async def now(self, principal: Principal) -> Principal:
        """The caller as a token issued now would describe it.

        Raises:
            Unauthenticated: the credential is no longer valid.
            NotFound: it no longer belongs to the tenant, so it must not learn anything about it.
            Unavailable: identity does not respond.
        """
        if principal.tenant_id is None or principal.credential_id is None:
            raise Unauthenticated
        asked = _Asked(principal.tenant_id, principal.kind.value, principal.credential_id)
        question = self._next.get(asked)
        if question is None:
            question = asyncio.create_task(self._question(asked, self._asking.get(asked)), name="authority question")
            question.add_done_callback(_noticed)
            self._next[asked] = question
        # One of those who wait may leave.
        answer = await asyncio.shield(question)
        if not answer["counts"]:
            raise Unauthenticated
        if answer["claims"] is None:
            raise NotFound
        return principal_from(answer["claims"])

    async def memberships(self, tenant_id: uuid.UUID, user_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, int]:
        """The membership numbers of those of the users, at most `MOST_ASKED`, who belong to the tenant.

        Raises:
            Unavailable: identity does not respond.
        """
        if not user_ids:
            return {}
        answer = await self._ask(tenant_id, "members", user_ids=[str(user_id) for user_id in user_ids])
        return {uuid.UUID(user_id): int(number) for user_id, number in answer["numbers"].items()}

    async def _question(self, asked: _Asked, earlier: "asyncio.Task[dict[str, Any]] | None") -> dict[str, Any]:
        if earlier is not None:
            await asyncio.wait([earlier])
        # From here on it is sent, and who comes now asks the next one.
        self._asking[asked] = self._next.pop(asked)
        try:
            if earlier is not None and not earlier.cancelled() and (error := earlier.exception()) is not None:
                # Identity is away; it was waited for long enough.
                raise error
            return await self._ask(
                asked.tenant_id, "authority", kind=asked.kind, credential_id=str(asked.credential_id)
            )
        finally:
            del self._asking[asked]

    async def _ask(self, tenant_id: uuid.UUID, what: str, **question: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {await self._tokens.token('identity', tenant_id)}"}
        try:
            status, body = await service_client.ask(
                self._client, "POST", f"{self._url}/internal/{what}", headers=headers, json=question
            )
            if status != 200:
                raise ValueError(f"status {status}")
            answer: dict[str, Any] = orjson.loads(body)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(
                "The identity service cannot be reached to check the credential.", retry_after=1
            ) from error
        return answer


def _noticed(question: "asyncio.Task[dict[str, Any]]") -> None:
    """Who waits gets its error; nobody may be left."""
    if not question.cancelled():
        question.exception()
