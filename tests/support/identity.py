"""Identity's network answers, for tests of the other services: its JWKS and its service tokens, over real HTTP."""

import base64
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI, HTTPException, Request, Response
from joserfc import jwt
from joserfc.jwk import OKPKey

from shared.auth import ALGORITHM, ALL_SCOPES, ISSUER, TOKEN_TYPE, Principal, PrincipalKind, Scope
from shared.events.identity import TenantRole
from shared.service_permissions import Operation, operations_of
from tests.support.serving import serve


class IdentityDouble:
    """Signs tokens with a key of its own and publishes that key."""

    url: str

    def __init__(self) -> None:
        self.key = OKPKey.generate_key("Ed25519", {"kid": uuid.uuid4().hex, "use": "sig"})
        self.now: dict[uuid.UUID, Principal | None] = {}
        """What each credential allows now, as far as this double made a token for it; None once it counts no more."""
        self.memberships: dict[uuid.UUID, int | None] = {}
        """Numbers of memberships other than 1; None for who belongs to no tenant."""
        self.away = False

    @classmethod
    @asynccontextmanager
    async def serving(cls) -> AsyncIterator["IdentityDouble"]:
        double = cls()
        async with serve(double._app()) as url:
            double.url = url
            yield double

    def bearer(
        self,
        audience: str,
        *,
        tenant_id: uuid.UUID | None,
        user_id: uuid.UUID | None = None,
        tenant_role: TenantRole | None = "owner",
        scopes: Iterable[Scope] = ALL_SCOPES,
        project_id: uuid.UUID | None = None,
        kind: PrincipalKind = PrincipalKind.API_KEY,
        credential_id: uuid.UUID | None = None,
        operations: Iterable[Operation] = tuple(Operation),
        membership_number: int = 1,
        **overrides: Any,
    ) -> str:
        """A token as identity would issue it; `overrides` replace claims, to make it wrong on purpose.

        A service has `operations`; roles and scopes are for the other kinds.
        """
        if kind is PrincipalKind.SERVICE:
            principal = Principal(
                kind=kind,
                subject="service:test",
                user_id=None,
                tenant_id=tenant_id,
                tenant_role=None,
                limit=frozenset(),
                operations=frozenset(operations),
            )
            return self.sign({"aud": audience, **principal.claims(), **overrides})
        user = user_id or uuid.uuid4()
        principal = Principal(
            kind=kind,
            subject=str(user),
            user_id=user,
            tenant_id=tenant_id,
            tenant_role=tenant_role,
            limit=frozenset(scopes),
            credential_id=credential_id or uuid.uuid4(),
            project_id=project_id,
            membership_number=membership_number,
        )
        if principal.credential_id is not None:
            self.now.setdefault(principal.credential_id, principal)
        return self.sign({"aud": audience, **principal.claims(), **overrides})

    def headers(self, audience: str, **options: Any) -> dict[str, str]:
        """`bearer` as request headers."""
        return {"Authorization": f"Bearer {self.bearer(audience, **options)}"}

    def sign(self, claims: dict[str, Any], header: dict[str, Any] | None = None) -> str:
        now = int(time.time())
        complete = {"iss": ISSUER, "iat": now, "exp": now + 300, "jti": uuid.uuid4().hex, **claims}
        protected = {"alg": ALGORITHM, "kid": self.key.kid, "typ": TOKEN_TYPE, **(header or {})}
        return jwt.encode(protected, complete, self.key, algorithms=[ALGORITHM])

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/internal/jwks")
        async def jwks() -> dict[str, Any]:
            return {"keys": [self.key.as_dict(private=False)]}

        @app.post("/internal/authority")
        async def authority(request: Request, response: Response) -> dict[str, Any]:
            response.status_code = 503 if self.away else 200
            principal = self.now[uuid.UUID((await request.json())["credential_id"])]
            return {"counts": principal is not None, "claims": principal and principal.claims()}

        @app.post("/internal/members")
        async def members(request: Request, response: Response) -> dict[str, Any]:
            response.status_code = 503 if self.away else 200
            asked = [uuid.UUID(user_id) for user_id in (await request.json())["user_ids"]]
            numbers = {user_id: self.memberships.get(user_id, 1) for user_id in asked}
            return {"numbers": {str(user_id): number for user_id, number in numbers.items() if number is not None}}

        @app.post("/internal/delegated-token")
        async def delegated_token(request: Request, response: Response) -> dict[str, Any]:
            response.status_code = 503 if self.away else 200
            asked = await request.json()
            claims = jwt.decode(asked["token"], self.key, algorithms=[ALGORITHM]).claims
            principal = self.now[uuid.UUID(claims["cid"])]
            return {"token": principal and self.sign({"aud": asked["audience"], **principal.claims()})}

        @app.post("/internal/service-token")
        async def service_token(request: Request) -> dict[str, Any]:
            asked = await request.json()
            caller = base64.b64decode(request.headers["authorization"].split()[1]).decode().partition(":")[0]
            tenant_id = None if asked["tenant_id"] is None else uuid.UUID(asked["tenant_id"])
            operations = operations_of(caller, asked["audience"], installation_wide=tenant_id is None)
            if not operations:
                raise HTTPException(403)
            token = self.bearer(
                asked["audience"],
                tenant_id=tenant_id,
                kind=PrincipalKind.SERVICE,
                operations=operations,
                sub=f"service:{caller}",
            )
            return {"token": token, "expires_in": 300.0}

        return app


def unverified(token: str) -> dict[str, Any]:
    """What a token says, whoever says so."""
    body = token.split(".")[1]
    claims: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims
