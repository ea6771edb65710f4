"""Whether a document exists, as its owner says: one uploaded a moment ago is not known here before its event arrives.

Guarantees: a tenant has at most `_ASKED_EACH` such requests under way, and they take turns. Each ends within
`_SECONDS`. To be asked outside transactions.
Fails by: `Unavailable` when the owner does not respond.
"""

import asyncio
import uuid
from typing import Final

import aiohttp

from shared import service_client
from shared.auth import ServiceTokens
from shared.errors import NotFound, Unavailable
from shared.fair_semaphore import FairSemaphore

_ASKED_AT_ONCE: Final = 16
_ASKED_EACH: Final = 4
_ASKED_WAITING: Final = 64
_SECONDS: Final = 2 * service_client.WITHIN_SECONDS
# A document with a later one was indexed, or failed to be, and so is known here.
_FIRST_VERSION: Final = 1


class DocumentOwner:
    """Asks the projects service. Made once for an application."""

    def __init__(self, projects_url: str, tokens: ServiceTokens, client: aiohttp.ClientSession) -> None:
        self._url = projects_url.rstrip("/")
        self._tokens = tokens
        self._client = client
        self._asking = FairSemaphore(_ASKED_AT_ONCE, each=_ASKED_EACH, waiting=_ASKED_WAITING)

    async def require(self, tenant_id: uuid.UUID, project_id: uuid.UUID, document_id: uuid.UUID) -> None:
        """Require that the project has the document. Says nothing of what a caller may do.

        Raises:
            NotFound: there is none, or it is deleted.
            Unavailable: the owner does not respond, or too many ask.
        """
        url = f"{self._url}/internal/projects/{project_id}/documents/{document_id}/versions/{_FIRST_VERSION}/content"
        try:
            async with asyncio.timeout(_SECONDS), self._asking.turn(tenant_id):
                token = await self._tokens.token("projects", tenant_id)
                headers = {"Authorization": f"Bearer {token}"}
                status, _ = await service_client.ask(self._client, "HEAD", url, headers=headers)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("The projects service cannot be reached.", retry_after=1) from error
        if status == 404:
            raise NotFound
        if status != 200:
            raise Unavailable("The projects service cannot respond now.", retry_after=1)
