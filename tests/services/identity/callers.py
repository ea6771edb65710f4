"""Callers of identity, as the gateway lets them through: a credential is exchanged for an internal token first."""

import secrets
import uuid
from dataclasses import dataclass
from typing import Any

import httpx

from services.identity.sessions.cookies import CSRF, SESSION
from tests.services.identity.provider import StrictProvider

PUBLIC_URL = "https://quarry.test"


@dataclass(frozen=True)
class Gateway:
    """The gateway's side: exchanges credentials and passes requests on with the token for identity."""

    client: httpx.AsyncClient
    secret: str

    async def exchange(self, kind: str, credential: str, *, service: str = "gateway") -> httpx.Response:
        return await self.client.post(
            "/internal/token",
            json={"credential_type": kind, "credential": credential},
            auth=httpx.BasicAuth(service, self.secret),
        )


class Caller:
    """Somebody with a credential, which is exchanged anew for every request."""

    def __init__(self, gateway: Gateway, kind: str, credential: str) -> None:
        self.gateway = gateway
        self.kind = kind
        self.credential = credential

    async def exchanged(self) -> dict[str, Any]:
        answer = await self.gateway.exchange(self.kind, self.credential)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        token = (await self.exchanged())["tokens"]["identity"]
        headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
        return await self.gateway.client.request(method, path, headers=headers, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        return await self.request("POST", path, **options)

    async def patch(self, path: str, **options: Any) -> httpx.Response:
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str, **options: Any) -> httpx.Response:
        return await self.request("DELETE", path, **options)

    async def me(self) -> dict[str, Any]:
        answer = await self.get("/v1/me")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def counts(self) -> bool:
        """Whether the credential is still good for a token."""
        return (await self.gateway.exchange(self.kind, self.credential)).status_code == 200


class Browser(Caller):
    """A browser with a cookie jar of its own. `sign_in` walks through the whole protocol.

    `outside` fetches what is elsewhere; one for all browsers, because making one loads every root certificate.
    """

    def __init__(self, gateway: Gateway, jar: httpx.AsyncClient, outside: httpx.AsyncClient) -> None:
        super().__init__(gateway, "session", "")
        self.jar = jar
        self.outside = outside

    async def start(self, provider: str = "strict", **query: str) -> str:
        """Begin a sign-in; where the provider is to be asked."""
        answer = await self.jar.get(f"/auth/login/{provider}", params=query)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    async def ask(self, location: str) -> str:
        """Go to the provider, which signs in at once; where it sends the browser back to."""
        answer = await self.outside.get(location)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"].removeprefix(PUBLIC_URL)

    async def sign_in(self, provider: StrictProvider, **claims: Any) -> httpx.Response:
        """Sign in as the person of `claims`; the answer to the callback."""
        provider.person = claims
        answer = await self.jar.get(await self.ask(await self.start()))
        assert answer.status_code == 303, answer.text
        self.credential = self.jar.cookies[SESSION]
        return answer

    @property
    def csrf(self) -> str:
        return self.jar.cookies[CSRF]


def somebody(**claims: Any) -> dict[str, Any]:
    """Claims of a person nobody else is."""
    name = secrets.token_hex(6)
    return {"sub": name, "email": f"{name}@example.test", "email_verified": True, "name": f"Person {name}", **claims}


def unknown_id() -> str:
    return str(uuid.uuid4())
