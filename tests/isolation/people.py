"""People and their credentials, all made through the public API: sign-in at the provider, invitations, keys."""

import ssl
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from typing import Any

import httpx

from infra.local.stack import Stack
from tests.support.polling import eventually

# Nothing here speaks TLS; a client that loads every root certificate takes 50 ms to make.
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
SESSION = "__Host-quarry_session"
CSRF = "__Host-quarry_csrf"


@dataclass(frozen=True, slots=True)
class Browser:
    """A signed-in browser. `cookies` are what it holds, all of them secrets; `spent` are secrets of its sign-in."""

    client: httpx.AsyncClient
    cookies: dict[str, str]
    spent: frozenset[str]

    async def session_id(self) -> str:
        me = await self.client.get("/v1/me")
        return str(me.json()["credential"]["id"])


def client_of(stack: Stack, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    return client_at(f"http://127.0.0.1:{stack.ports['gateway']}", headers)


def client_at(url: str, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    # Idle connections are left before the server leaves them, else a request may meet its goodbye.
    limits = httpx.Limits(keepalive_expiry=2.0)
    return httpx.AsyncClient(base_url=url, headers=headers or {}, timeout=60, verify=PLAIN, limits=limits)


def key_client(stack: Stack, key: str) -> httpx.AsyncClient:
    return client_of(stack, {"Authorization": f"Bearer {key}"})


async def sign_in(stack: Stack, email: str, *, name: str = "Somebody") -> Browser:
    """Sign in at the development provider, as the person with that verified address."""
    assert stack.oidc is not None
    return await sign_in_at(f"http://127.0.0.1:{stack.ports['gateway']}", stack.oidc.issuer, email, name=name)


async def sign_in_at(url: str, issuer: str, email: str, *, name: str = "Somebody") -> Browser:
    """As `sign_in`, where the gateway and the provider are known by their addresses alone."""
    claims = {"email": email, "email_verified": True, "name": name}
    cookies: dict[str, str] = {}
    async with client_at(url) as browser, httpx.AsyncClient(timeout=60, verify=PLAIN) as elsewhere:
        made = await elsewhere.put(f"{issuer}/users/{email}", json=claims)
        assert made.status_code == 204, made.text
        begun = await browser.get("/auth/login/dev", params={"return_to": "/"})
        _keep(cookies, begun)
        approved = await elsewhere.post(begun.headers["location"], data={"sub": email})
        answer = await browser.get(approved.headers["location"], headers={"Cookie": sent(cookies)})
        assert answer.status_code == 303, answer.text
        _keep(cookies, answer)
    spent = {*httpx.URL(approved.headers["location"]).params.values(), *cookies.values()}
    cookies = {name: value for name, value in cookies.items() if name in (SESSION, CSRF)}
    client = client_at(url, {"Cookie": sent(cookies), "X-CSRF-Token": cookies[CSRF]})
    return Browser(client, cookies, frozenset(value for value in spent if len(value) > 16 and "://" not in value))


async def join(owner: httpx.AsyncClient, browser: Browser, email: str, role: str) -> tuple[str, str]:
    """Invite somebody into the owner's tenant, accept, and activate it; gives the user's id and the token used."""
    tenant_id = (await owner.get("/v1/me")).json()["tenant"]["id"]
    invited = await owner.post("/v1/invitations", json={"email": email, "role": role})
    assert invited.status_code == 201, invited.text
    token = invited.json()["token"]
    for path in (f"/v1/invitations/{token}/accept", f"/v1/tenants/{tenant_id}/activate"):
        answer = await browser.client.post(path)
        assert answer.status_code == 200, answer.text

    async def active() -> bool:
        me = (await browser.client.get("/v1/me")).json()
        return bool(me["tenant"] and me["tenant"]["id"] == tenant_id)

    await eventually(active, within=60)
    return str((await browser.client.get("/v1/me")).json()["user"]["id"]), token


async def make_key(client: httpx.AsyncClient, name: str, scopes: frozenset[str], **more: Any) -> dict[str, Any]:
    answer = await client.post("/v1/api-keys", json={"name": name, "scopes": sorted(scopes), **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def soon() -> str:
    """A moment at which a key expires before anybody uses it in earnest."""
    return (datetime.now(UTC) + timedelta(seconds=1)).isoformat()


async def until_refused(client: httpx.AsyncClient) -> None:
    """Wait until a credential has ended everywhere."""

    async def refused() -> bool:
        return (await client.get("/v1/me")).status_code == 401

    await eventually(refused, within=60, every=0.05)


def somewhere(name: str) -> str:
    """An address nobody else has."""
    return f"{name}-{uuid.uuid4().hex[:12]}@example.test"


def _keep(cookies: dict[str, str], answer: httpx.Response) -> None:
    for line in answer.headers.get_list("set-cookie"):
        cookies.update({name: morsel.value for name, morsel in SimpleCookie(line).items()})


def sent(cookies: dict[str, str]) -> str:
    """As a Cookie header."""
    return "; ".join(f"{name}={value}" for name, value in cookies.items())
