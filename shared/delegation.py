"""Calling another service with the rights of the client at hand, and with none of one's own (ADR 0029).

A service shows identity its secret and the internal token that the client's request came with, and gets a token of the
same client for another service: token exchange with delegation (RFC 8693). The called service cannot tell it from a
request of the client itself, so a foreign resource is 404 there by the rules that clients know.

Guarantees: the token stands for what the client's credential allows at the moment of the exchange, in the tenant of the
request, cut down to the scopes that `DELEGATED` gives the two services. It lives for seconds: it is for the request at
hand, and nothing keeps it.
Fails by: `Unauthenticated` when the credential no longer counts, `Unavailable` when identity does not respond.
"""

from collections.abc import Mapping
from typing import Final

import aiohttp
import orjson

from shared import service_client
from shared.auth import Scope
from shared.errors import Unauthenticated, Unavailable
from shared.service_permissions import Audience

DELEGATED: Final[Mapping[str, Mapping[str, frozenset[Scope]]]] = {
    "indexing": {"projects": frozenset({Scope.PROJECTS_READ, Scope.DOCUMENTS_READ})},
}
"""Caller, audience, and the scopes of a client that may be passed on there. The only such table."""


def delegated_scopes(caller: str, audience: str) -> frozenset[Scope]:
    """What `caller` may pass on to `audience`; may be empty."""
    return DELEGATED.get(caller, {}).get(audience, frozenset())


class Delegation:
    """Asks identity on behalf of one service."""

    def __init__(self, service: str, secret: str, identity_url: str, client: aiohttp.ClientSession) -> None:
        self._url = f"{identity_url.rstrip('/')}/internal/delegated-token"
        self._headers = {"Authorization": aiohttp.encode_basic_auth(service, secret)}
        self._client = client

    async def token(self, client_token: str, audience: Audience) -> str:
        """A token for `audience` of the client whose internal token is `client_token`.

        Raises:
            Unauthenticated: the client's credential no longer counts.
            Unavailable: identity did not respond.
        """
        body = {"token": client_token, "audience": audience}
        try:
            status, answer = await service_client.ask(self._client, "POST", self._url, json=body, headers=self._headers)
            if status != 200:
                raise ValueError(f"status {status}")
            token: str | None = orjson.loads(answer)["token"]
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable("The identity service cannot be reached.", retry_after=1) from error
        if token is None:
            raise Unauthenticated
        return token
