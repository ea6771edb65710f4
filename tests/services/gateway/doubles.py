"""The services behind a gateway under test: small ASGI applications on loopback that say what they saw."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from shared.auth import ALL_SCOPES, AUDIENCES
from shared.invalidations import PATH
from tests.support.leases import LeasesDouble
from tests.support.serving import serve

Answer = Callable[["Seen", Receive, Send], Awaitable[None]]


@dataclass
class Seen:
    """A request as it reached a service."""

    method: str
    raw_path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name} arrived twice"
        return values[0] if values else None


@dataclass
class ServiceDouble:
    """Answers every path with what it saw, or as `answers` says for that path. `running` counts requests under way."""

    name: str
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=lambda: {"openapi": "3.1.0", "paths": {}})
    running: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        headers = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]]
        seen = Seen(scope["method"], scope["raw_path"].decode(), scope["query_string"].decode(), headers)
        self.running += 1
        try:
            answer = self.answers.get(scope["path"])
            if answer is not None:
                self.seen.append(seen)
                await answer(seen, receive, send)
            elif scope["path"] == "/healthz":
                await reply(send, {"status": "ok"})
            elif scope["path"] == "/openapi.json":
                await reply(send, self.document)
            else:
                seen.body = await read_body(receive)
                self.seen.append(seen)
                await reply(send, {"service": self.name, "path": seen.raw_path, "query": seen.query})
        finally:
            self.running -= 1

    @property
    def last(self) -> Seen:
        return self.seen[-1]

    def reset(self) -> None:
        self.seen.clear()
        self.answers.clear()
        self.document = {"openapi": "3.1.0", "paths": {}}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["ServiceDouble"]:
        async with serve(self) as self.url:
            yield self


@dataclass
class Account:
    """Somebody identity knows, by one credential."""

    kind: str = "api_key"
    tenant_id: uuid.UUID | None = field(default_factory=uuid.uuid4)
    user_id: uuid.UUID = field(default_factory=uuid.uuid4)
    credential_id: uuid.UUID = field(default_factory=uuid.uuid4)
    csrf_token: str | None = None
    expires_in: float = 60.0
    credential_expires_in: float | None = None


@dataclass
class IdentityServiceDouble(ServiceDouble):
    """Exchanges the credentials in `accounts`; counts how often it was asked."""

    accounts: dict[tuple[str, str], Account] = field(default_factory=dict)
    exchanges: list[tuple[str, str]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    available: asyncio.Event = field(default_factory=asyncio.Event)
    broken: int = 0
    leases: LeasesDouble = field(default_factory=LeasesDouble)

    def __post_init__(self) -> None:
        self.available.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/internal/token":
            await self._exchange(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"] == "/internal/service-token":
            await read_body(receive)
            await reply(send, {"token": "service-token", "expires_in": 300.0})
            return
        if scope["type"] == "http" and scope["path"].startswith(f"{PATH}/"):
            asked = json.loads(await read_body(receive))
            if self.leases.refusing:
                await reply(send, {"detail": "refusing"}, status=503)
            else:
                await reply(send, await self.leases.answer(scope["path"].rpartition("/")[2], asked))
            return
        await super().__call__(scope, receive, send)

    def know(self, kind: str, value: str, **options: Any) -> Account:
        account = Account(kind="session" if kind == "session" else "api_key", **options)
        self.accounts[kind, value] = account
        return account

    def new_key(self, **options: Any) -> tuple[dict[str, str], Account]:
        """Headers of a new API key, and whose it is."""
        value = f"qk_{uuid.uuid4().hex}"
        return {"Authorization": f"Bearer {value}"}, self.know("api_key", value, **options)

    def new_session(self, **options: Any) -> tuple[dict[str, str], Account]:
        """Headers of a new browser session, without its CSRF token."""
        value = uuid.uuid4().hex
        options.setdefault("csrf_token", f"csrf-{value}")
        return {"Cookie": f"other=1; __Host-quarry_session={value}"}, self.know("session", value, **options)

    def reset(self) -> None:
        super().reset()
        self.accounts.clear()
        self.exchanges.clear()
        self.authorizations.clear()
        self.leases.reset()
        self.leases.holders.clear()  # of gateways that other tests have stopped
        self.available.set()
        self.broken = 0

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = json.loads(await read_body(receive))
        key = asked["credential_type"], asked["credential"]
        self.exchanges.append(key)
        self.authorizations.append(dict(scope["headers"])[b"authorization"].decode())
        await self.available.wait()
        if self.broken:
            await reply(send, {"detail": "broken"}, status=self.broken)
            return
        account = self.accounts.get(key)
        if account is None:
            await reply(send, {"code": "unauthenticated"}, status=401)
            return
        tokens = {audience: f"internal-{audience}-{account.credential_id}" for audience in AUDIENCES}
        answer = {
            "tokens": tokens,
            "expires_in": account.expires_in,
            "credential_expires_in": account.credential_expires_in,
            "kind": account.kind,
            "user_id": str(account.user_id),
            "tenant_id": str(account.tenant_id) if account.tenant_id else None,
            "credential_id": str(account.credential_id),
            "csrf_token": account.csrf_token,
            "scopes": sorted(ALL_SCOPES),
            "project_id": None,
        }
        await reply(send, answer)


@dataclass
class Services:
    identity: IdentityServiceDouble
    projects: ServiceDouble
    indexing: ServiceDouble
    notifier: ServiceDouble

    def each(self) -> tuple[ServiceDouble, ...]:
        return self.identity, self.projects, self.indexing, self.notifier


async def read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


async def reply(
    send: Send, document: Any, *, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    body = json.dumps(document).encode()
    complete = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": complete})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return
