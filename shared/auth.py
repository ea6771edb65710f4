"""Who is calling: the internal token, its verification, and what roles allow.

identity is the only issuer (Ed25519, rotating keys, JWKS at `/internal/jwks`). The gateway exchanges a client's
credential for one token per audience; services exchange their own secret for a token that names the operations
`shared.service_permissions` gives them, about one tenant. A service accepts a token only for its own audience,
unexpired, with the type `quarry-internal+jwt` and a key identity publishes.

What a principal may do is `limit & role`: the credential's scopes (all of them for a browser session) cut down by what
the tenant role, or else the role in the project at hand, gives.
"""

import asyncio
import base64
import hashlib
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import aiohttp
import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from shared import service_client
from shared.errors import Forbidden, NotFound, Unauthenticated, Unavailable
from shared.events.identity import TenantRole
from shared.events.projects import ProjectRole
from shared.service_permissions import Audience, Operation
from shared.topology import BACKENDS

ISSUER: Final = "quarry-identity"
TOKEN_TYPE: Final = "quarry-internal+jwt"  # noqa: S105  # a JWT type header, not a secret
ALGORITHM: Final = "Ed25519"
AUDIENCES: Final = BACKENDS
LEEWAY_SECONDS: Final = 5
MAX_TOKEN_BYTES: Final = 8192
_OF_CLIENTS: Final = frozenset({"uid", "trole", "cid", "pid", "cexp"})


class Scope(StrEnum):
    PROJECTS_READ = "projects:read"
    PROJECTS_WRITE = "projects:write"
    DOCUMENTS_READ = "documents:read"
    DOCUMENTS_WRITE = "documents:write"
    SEARCH = "search"
    EVENTS_READ = "events:read"
    MEMBERS_ADMIN = "members:admin"
    KEYS_ADMIN = "keys:admin"
    WEBHOOKS_ADMIN = "webhooks:admin"
    AUDIT_READ = "audit:read"
    TENANT_ADMIN = "tenant:admin"


ALL_SCOPES: Final = frozenset(Scope)
_VIEWER: Final = frozenset({Scope.PROJECTS_READ, Scope.DOCUMENTS_READ, Scope.SEARCH, Scope.EVENTS_READ})
_EDITOR: Final = _VIEWER | {Scope.DOCUMENTS_WRITE}
_OWNER: Final = _EDITOR | {Scope.PROJECTS_WRITE, Scope.MEMBERS_ADMIN}
PROJECT_ROLE_SCOPES: Final[dict[ProjectRole, frozenset[Scope]]] = {
    "viewer": _VIEWER,
    "editor": _EDITOR,
    "owner": _OWNER,
}


class PrincipalKind(StrEnum):
    SESSION = "session"
    API_KEY = "api_key"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Principal:
    """The verified caller.

    `limit` is the most its credential may do; `project_id` ties the credential to a project. `membership_number` says
    which of the user's memberships of the tenant is speaking: 1 for the first, one more each time the user comes back.
    A project role counts only in the membership it was granted in. `credential_until` is when the credential itself
    expires: what it obtained must not outlive it. A service has `operations` instead of a user, a role and a limit.
    """

    kind: PrincipalKind
    subject: str
    user_id: uuid.UUID | None
    tenant_id: uuid.UUID | None
    tenant_role: TenantRole | None
    limit: frozenset[Scope]
    credential_id: uuid.UUID | None = None
    project_id: uuid.UUID | None = None
    credential_until: datetime | None = None
    operations: frozenset[Operation] = frozenset()
    membership_number: int = 1

    @property
    def is_tenant_admin(self) -> bool:
        return self.tenant_role in ("owner", "admin")

    def require(self, scope: Scope) -> None:
        """Tenant-wide permission.

        Raises:
            Forbidden: not an owner or admin of the tenant, or the credential lacks the scope or is tied to one project.
        """
        if not self.is_tenant_admin or scope not in self.limit or self.project_id is not None:
            raise Forbidden

    def require_operation(self, operation: Operation) -> None:
        """Permission of a service.

        Raises:
            Forbidden: the caller is not a service, or its token does not name the operation.
        """
        if self.kind is not PrincipalKind.SERVICE or operation not in self.operations:
            raise Forbidden("Your token does not allow this operation.")

    def scopes_in_project(self, project_id: uuid.UUID, role: ProjectRole | None) -> frozenset[Scope]:
        """What the principal may do in one project, given its role there; empty when it may not know the project."""
        if self.project_id not in (None, project_id):
            return frozenset()
        if self.is_tenant_admin:
            return self.limit
        return self.limit & PROJECT_ROLE_SCOPES[role] if role is not None else frozenset()

    def require_in_project(self, scope: Scope, project_id: uuid.UUID, role: ProjectRole | None) -> None:
        """Permission in one project.

        Raises:
            NotFound: the caller has no access to the project; the same response as for one that does not exist.
            Forbidden: the caller knows the project but its role or credential does not allow this.
        """
        scopes = self.scopes_in_project(project_id, role)
        if not scopes:
            raise NotFound
        if scope not in scopes:
            raise Forbidden

    def claims(self) -> dict[str, Any]:
        """The private claims of an internal token for this principal."""
        values = {
            "sub": self.subject,
            "kind": self.kind.value,
            "uid": self.user_id,
            "tid": self.tenant_id,
            "trole": self.tenant_role,
            "scope": " ".join(sorted(self.operations if self.kind is PrincipalKind.SERVICE else self.limit)),
            "cid": self.credential_id,
            "pid": self.project_id,
            "cexp": None if self.credential_until is None else self.credential_until.timestamp(),
            "mno": self.membership_number,
        }
        return {
            name: str(value) if isinstance(value, uuid.UUID) else value
            for name, value in values.items()
            if value is not None
        }


class TokenVerifier:
    """Verifies internal tokens for one audience with identity's published keys.

    Keys are fetched when first needed and when an unknown key id appears, at most once in `_REFRESH_SECONDS`, however
    many tokens with invented key ids arrive. The principals of the last `_MOST_REMEMBERED` valid tokens are remembered
    until these expire: a caller sends the same token with many requests.
    """

    _REFRESH_SECONDS = 5.0
    _MOST_REMEMBERED = 4096

    def __init__(self, audience: str, identity_url: str, client: aiohttp.ClientSession) -> None:
        self._audience = audience
        self._url = f"{identity_url.rstrip('/')}/internal/jwks"
        self._client = client
        self._keys: dict[str, KeySet] = {}
        self._next_fetch = 0.0
        self._lock = asyncio.Lock()
        # By digest: a token is a secret, and may be long.
        self._remembered: dict[bytes, tuple[Principal, float]] = {}

    async def verify(self, token: str) -> Principal:
        """The principal of a valid token.

        Raises:
            Unauthenticated: malformed, unsigned, expired, of another audience or type, or of an unknown key.
            Unavailable: identity's keys cannot be fetched and none is cached.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthenticated
        digest = hashlib.sha256(token.encode()).digest()
        remembered = self._remembered.get(digest)
        if remembered is not None and time.time() < remembered[1]:
            return remembered[0]
        principal, expires_at = await self._decoded(token)
        self._remembered[digest] = principal, expires_at + LEEWAY_SECONDS
        if len(self._remembered) > self._MOST_REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)))
        return principal

    async def _decoded(self, token: str) -> tuple[Principal, float]:
        """The principal of a valid token, and when the token expires."""
        keys = await self._keys_for(_key_id(token))
        try:
            decoded = jwt.decode(token, keys, algorithms=[ALGORITHM])
            registry = jwt.JWTClaimsRegistry(
                leeway=LEEWAY_SECONDS,
                iss={"essential": True, "value": ISSUER},
                aud={"essential": True, "value": self._audience},
                exp={"essential": True},
                iat={"essential": True},
                sub={"essential": True},
            )
            registry.validate(decoded.claims)
            # Identity uses no extensions beyond RFC 7515 (`crit`); the library accepts some malformed ones.
            if decoded.header.get("typ") != TOKEN_TYPE or "crit" in decoded.header:
                raise Unauthenticated
            return principal_from(decoded.claims), float(decoded.claims["exp"])
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise Unauthenticated from error

    async def _keys_for(self, key_id: str) -> KeySet:
        if key_id not in self._keys:
            async with self._lock:
                if key_id not in self._keys:
                    await self._fetch()
        keys = self._keys.get(key_id)
        if keys is None:
            raise Unauthenticated
        return keys

    async def _fetch(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._next_fetch:
            return
        try:
            status, body = await service_client.ask(self._client, "GET", self._url)
            if status != 200:
                raise ValueError(f"status {status}")
            document = orjson.loads(body)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            if not self._keys:
                raise Unavailable(
                    "The identity service cannot be reached to check credentials.", retry_after=1
                ) from error
            return
        self._next_fetch = now + self._REFRESH_SECONDS
        self._keys = {key["kid"]: KeySet.import_key_set({"keys": [key]}) for key in document["keys"]}


def principal_from(claims: dict[str, Any]) -> Principal:
    """The principal that `Principal.claims` described. Raises ValueError or KeyError on anything else."""
    kind = PrincipalKind(claims["kind"])
    parts = claims["scope"].split()
    if kind is PrincipalKind.SERVICE:
        if not _OF_CLIENTS.isdisjoint(claims):
            raise ValueError("claims of a client in a service's token")
        return Principal(
            kind=kind,
            subject=claims["sub"],
            user_id=None,
            tenant_id=_uuid_or_none(claims.get("tid")),
            tenant_role=None,
            limit=frozenset(),
            operations=frozenset(Operation(part) for part in parts),
        )
    role = claims.get("trole")
    if role not in (None, "owner", "admin", "member"):
        raise ValueError("unknown tenant role")
    return Principal(
        kind=kind,
        subject=claims["sub"],
        user_id=_uuid_or_none(claims.get("uid")),
        tenant_id=_uuid_or_none(claims.get("tid")),
        tenant_role=role,
        limit=frozenset(Scope(part) for part in parts),
        credential_id=_uuid_or_none(claims.get("cid")),
        project_id=_uuid_or_none(claims.get("pid")),
        credential_until=_moment_or_none(claims.get("cexp")),
        membership_number=int(claims.get("mno", 1)),
    )


class ServiceTokens:
    """Tokens with which one service calls another; cached until shortly before they expire."""

    _MOST_CACHED = 4096

    def __init__(self, service: str, secret: str, identity_url: str, client: aiohttp.ClientSession) -> None:
        self._url = f"{identity_url.rstrip('/')}/internal/service-token"
        self._headers = {"Authorization": aiohttp.encode_basic_auth(service, secret)}
        self._client = client
        self._cache: dict[tuple[str, uuid.UUID | None], tuple[str, float]] = {}

    async def token(self, audience: Audience, tenant_id: uuid.UUID | None) -> str:
        """A bearer token for calling `audience` about `tenant_id`, or about the installation when None.

        Raises:
            Unavailable: identity did not respond.
        """
        loop = asyncio.get_running_loop()
        cached = self._cache.get((audience, tenant_id))
        if cached and cached[1] > loop.time():
            return cached[0]
        try:
            status, answer = await service_client.ask(
                self._client,
                "POST",
                self._url,
                json={"audience": audience, "tenant_id": None if tenant_id is None else str(tenant_id)},
                headers=self._headers,
            )
            if status != 200:
                raise ValueError(f"status {status}")
            body = orjson.loads(answer)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable("The identity service cannot be reached.", retry_after=1) from error
        if len(self._cache) >= self._MOST_CACHED:
            self._cache.pop(next(iter(self._cache)))
        self._cache[audience, tenant_id] = (body["token"], loop.time() + max(0.0, body["expires_in"] - 30))
        return str(body["token"])


def scopes_text(scopes: Iterable[Scope]) -> list[str]:
    return sorted(scope.value for scope in scopes)


def _key_id(token: str) -> str:
    """The key id a token claims; nothing else in an unverified header is trusted."""
    encoded = token.partition(".")[0]
    try:
        header = orjson.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        return str(header["kid"])
    except (ValueError, KeyError, TypeError) as error:
        raise Unauthenticated from error


def _moment_or_none(value: Any) -> datetime | None:
    return None if value is None else datetime.fromtimestamp(value, UTC)


def _uuid_or_none(value: Any) -> uuid.UUID | None:
    return None if value is None else uuid.UUID(value)
