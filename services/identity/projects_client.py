"""Asks the projects service whether a project is one of the tenant's."""

import uuid

import aiohttp
import orjson

from services.identity.tokens import service as tokens
from services.identity.tokens.issuing import TokenIssuer
from shared import service_client
from shared.errors import Unavailable


class Projects:
    """The tenant's projects, as their owner knows them."""

    def __init__(self, url: str, issuer: TokenIssuer, client: aiohttp.ClientSession) -> None:
        self._url = url.rstrip("/")
        self._issuer = issuer
        self._client = client

    async def has(self, tenant_id: uuid.UUID, project_id: uuid.UUID) -> bool:
        """Whether the tenant has such a project that is not deleted.

        Raises:
            Unavailable: the projects service does not respond.
        """
        token = tokens.service_token("identity", audience="projects", tenant_id=tenant_id, issuer=self._issuer).token
        try:
            status, body = await service_client.ask(
                self._client,
                "GET",
                f"{self._url}/internal/projects/{project_id}/access",
                headers={"Authorization": f"Bearer {token}"},
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("The projects service cannot be reached.", retry_after=1) from error
        if status == 404:
            return False
        if status != 200:
            raise Unavailable("The projects service cannot respond now.", retry_after=1)
        return bool(orjson.loads(body)["status"] == "active")
