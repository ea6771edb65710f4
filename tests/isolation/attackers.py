"""Who attacks: one of each kind, with what the kind holds and what it may legitimately know.

Beside these, `tests.isolation.tampering` changes single parameters of requests, and names its own attackers.
"""

import hashlib
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Literal

import asyncpg
import httpx

from infra.local.stack import Stack
from infra.postgres.roles import DATABASE
from tests.isolation.canaries import canary
from tests.isolation.endpoints import ROUTES
from tests.isolation.expectations import ALL_SCOPES, Standing
from tests.isolation.internals import internal_tokens
from tests.isolation.people import (
    SESSION,
    Browser,
    client_of,
    join,
    key_client,
    make_key,
    sign_in,
    somewhere,
    soon,
    until_refused,
)
from tests.support.polling import eventually

ENDED = Standing(counts=False, tenant=None, role=None)
# Canaries by where they are planted.
OF_PROJECT = frozenset({"project", "document", "content", "failure"})
OF_MEMBERS = frozenset({"tenant", "member"})
EVERYTHING = OF_PROJECT | OF_MEMBERS | {"key", "invited"}
_ENDING_SESSIONS = {
    "session past its expiry": "UPDATE identity.sessions SET expires_at = now() WHERE secret_hash = $1",
    "session idle too long": "UPDATE identity.sessions SET last_seen_at = now() - interval '1 year' "
    "WHERE secret_hash = $1",
}


@dataclass(frozen=True, slots=True)
class Attacker:
    """`may_know`: canaries that may be in an answer to it. `only_scope`: tried only at the routes that need it."""

    name: str
    client: httpx.AsyncClient
    standing: Standing
    may_know: frozenset[str] = frozenset()
    only_scope: str | None = None

    @property
    def knows_ids(self) -> bool:
        """Whether ids of the victim's tenant may be in answers to it."""
        return self.standing.tenant == "victim"


@dataclass(slots=True)
class Cast:
    """All attackers, browsers by name, and the secrets that came up while they were made."""

    stack: Stack
    owner: httpx.AsyncClient
    project: str
    other_project: str
    attackers: list[Attacker] = field(default_factory=list)
    browsers: dict[str, Browser] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    closing: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def strangers(self) -> list[Attacker]:
        """Those of the other tenant."""
        return [attacker for attacker in self.attackers if attacker.standing.tenant == "other"]

    def named(self, name: str) -> Attacker:
        return next(attacker for attacker in self.attackers if attacker.name == name)

    def add(
        self, name: str, client: httpx.AsyncClient, standing: Standing, may_know: frozenset[str] = frozenset()
    ) -> None:
        self.attackers.append(Attacker(name, client, standing, may_know))

    def closed_later(self, client: httpx.AsyncClient) -> httpx.AsyncClient:
        self.closing.push_async_callback(client.aclose)
        return client

    def connect(self, kind: str, secret: str) -> httpx.AsyncClient:
        """A client with an API key (`key`) or a session cookie (`session`)."""
        if kind == "key":
            return key_client(self.stack, secret)
        return client_of(self.stack, {"Cookie": f"{SESSION}={secret}"})

    async def browser(self, email: str, name: str = "Somebody") -> Browser:
        browser = await sign_in(self.stack, email, name=name)
        self.secrets |= {*browser.cookies.values(), *browser.spent}
        self.closed_later(browser.client)
        return browser

    async def member(self, name: str, role: str = "member") -> tuple[Browser, str]:
        """Somebody who has joined the victim's tenant, and the user's id."""
        email = somewhere(f"{canary('member')}{name}")
        browser = await self.browser(email, canary("member"))
        user_id, token = await join(self.owner, browser, email, role)
        self.secrets.add(token)
        return browser, user_id

    async def key(
        self, scopes: frozenset[str], *, by: httpx.AsyncClient | None = None, **more: str
    ) -> tuple[httpx.AsyncClient, str]:
        """A client with a new key of the victim's tenant, and the key's id."""
        made = await make_key(by or self.owner, f"key {uuid.uuid4().hex[:8]}", scopes, **more)
        self.secrets.add(made["key"])
        return self.closed_later(key_client(self.stack, made["key"])), made["id"]

    async def set_role(self, user_id: str, role: Literal["viewer", "editor", "owner"], project: str) -> None:
        answer = await self.owner.put(f"/v1/projects/{project}/members/{user_id}", json={"role": role})
        assert answer.status_code == 200, answer.text


async def gather(cast: Cast, stranger: httpx.AsyncClient) -> None:
    """One attacker of each kind. `stranger` holds a key of another tenant's owner."""
    await _strangers(cast, stranger)
    await _members(cast)
    await _former_members(cast)
    await _keys(cast)
    await _ended_keys(cast)
    await _ended_sessions(cast)


async def _strangers(cast: Cast, stranger: httpx.AsyncClient) -> None:
    cast.add("anonymous", cast.closed_later(client_of(cast.stack)), ENDED)
    cast.add("API key nobody made", cast.closed_later(key_client(cast.stack, f"qk_{'A' * 43}")), ENDED)
    internal = await internal_tokens(cast.stack, cast.owner.headers["Authorization"].removeprefix("Bearer "))
    cast.secrets |= set(internal.values())
    for audience in ("projects", "identity"):
        client = cast.closed_later(key_client(cast.stack, internal[audience]))
        cast.add("internal token at the gateway", client, ENDED)
    cast.add("other tenant's owner, key", stranger, Standing())
    email = (await stranger.get("/v1/me")).json()["user"]["email"]
    browser = cast.browsers["stranger"] = await cast.browser(email)
    cast.add("other tenant's owner, session", browser.client, Standing(signed_in=True))


async def _members(cast: Cast) -> None:
    """Members of the victim's tenant: each role in the project, none there but one elsewhere, and an admin."""
    roles: dict[str, Literal["viewer", "editor", "owner"]] = {
        "viewer of the project": "viewer",
        "editor of the project": "editor",
        "owner of the project": "owner",
    }
    for name, role in roles.items():
        browser, user_id = await cast.member(role)
        await cast.set_role(user_id, role, cast.project)
        await _until_seen(browser.client, cast.project, 200)
        standing = Standing(tenant="victim", role="member", in_project=role, signed_in=True)
        cast.add(name, browser.client, standing, OF_MEMBERS | OF_PROJECT)
    browser, user_id = await cast.member("outsider")
    await cast.set_role(user_id, "editor", cast.other_project)
    await _until_seen(browser.client, cast.other_project, 200)
    cast.browsers["outsider"] = browser
    outside = Standing(tenant="victim", role="member", signed_in=True)
    cast.add("member without the project", browser.client, outside, OF_MEMBERS)
    browser, _ = await cast.member("admin", "admin")
    admin = Standing(tenant="victim", role="admin", signed_in=True)
    cast.add("tenant admin", browser.client, admin, EVERYTHING)


async def _former_members(cast: Cast) -> None:
    """Who had a role in the project, and who was an admin of the tenant and made a key."""
    browser, user_id = await cast.member("dropped")
    await cast.set_role(user_id, "owner", cast.project)
    await _until_seen(browser.client, cast.project, 200)
    assert (await cast.owner.delete(f"/v1/projects/{cast.project}/members/{user_id}")).status_code == 204
    await _until_seen(browser.client, cast.project, 404)
    outside = Standing(tenant="victim", role="member", signed_in=True)
    cast.add("removed from the project", browser.client, outside, OF_MEMBERS)

    browser, user_id = await cast.member("removed", "admin")
    client, _ = await cast.key(ALL_SCOPES, by=browser.client)
    assert (await client.get("/v1/me")).status_code == 200
    assert (await cast.owner.delete(f"/v1/members/{user_id}")).status_code == 204
    await until_refused(client)

    async def without_tenant() -> bool:
        return (await browser.client.get("/v1/me")).json()["tenant"] is None

    await eventually(without_tenant, within=60, every=0.05)
    cast.add("removed from the tenant, key", client, ENDED)
    # Its own name and address hold the canary of members.
    gone = Standing(tenant=None, role=None, signed_in=True)
    cast.add("removed from the tenant, session", browser.client, gone, frozenset({"member"}))


async def _keys(cast: Cast) -> None:
    tied, _ = await cast.key(ALL_SCOPES, project_id=cast.other_project)
    cast.add("API key tied to another project", tied, Standing(tenant="victim", tied=True), frozenset({"tenant"}))
    for scope in sorted({route.scope for route in ROUTES.values() if route.scope}):
        client, _ = await cast.key(ALL_SCOPES - {scope})
        standing = Standing(tenant="victim", limit=ALL_SCOPES - {scope})
        cast.attackers.append(Attacker("API key without the scope", client, standing, EVERYTHING, only_scope=scope))


async def _ended_keys(cast: Cast) -> None:
    expired, _ = await cast.key(ALL_SCOPES, expires_at=soon())
    revoked, key_id = await cast.key(ALL_SCOPES)
    assert (await revoked.get("/v1/me")).status_code == 200
    assert (await cast.owner.delete(f"/v1/api-keys/{key_id}")).status_code == 204
    for name, client in (("API key, expired", expired), ("API key, revoked", revoked)):
        await until_refused(client)
        cast.add(name, client, ENDED)


async def _ended_sessions(cast: Cast) -> None:
    """Sessions of the victim's own: revoked elsewhere, signed out, expired, and idle too long."""
    email = (await cast.owner.get("/v1/me")).json()["user"]["email"]
    revoked, signed_out = await cast.browser(email), await cast.browser(email)
    here = await cast.browser(email)
    assert (await here.client.delete(f"/v1/sessions/{await revoked.session_id()}")).status_code == 204
    assert (await signed_out.client.post("/auth/logout")).status_code == 204
    ended = {"session, revoked": revoked, "session, signed out": signed_out}
    admin = await asyncpg.connect(cast.stack.postgres.admin_dsn(DATABASE))
    try:
        for name, statement in _ENDING_SESSIONS.items():
            ended[name] = await cast.browser(email)
            await admin.execute(statement, hashlib.sha256(ended[name].cookies[SESSION].encode()).digest())
    finally:
        await admin.close()
    for name, browser in ended.items():
        await until_refused(browser.client)
        cast.add(name, browser.client, ENDED)


async def _until_seen(client: httpx.AsyncClient, project: str, status: int) -> None:
    """Wait until every service says so: those that do not own projects learn of roles by events."""

    async def seen() -> bool:
        statuses = {(await client.get(f"/v1/projects/{project}{path}")).status_code for path in ("", "/jobs")}
        async with client.stream("GET", f"/v1/projects/{project}/events") as stream:
            return statuses | {stream.status_code} == {status}

    await eventually(seen, within=60, every=0.05)
