"""Identity's network answers, for tests of the other services: its JWKS and its service tokens, over real HTTP."""

import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from joserfc import jwt
from joserfc.jwk import OKPKey

from shared.auth import ALGORITHM, ALL_SCOPES, ISSUER, TOKEN_TYPE, Principal, PrincipalKind, Scope
from shared.events.identity import TenantRole
from tests.support.serving import serve


class IdentityDouble:
    """Signs tokens with a key of its own and publishes that key."""

    url: str

    def __init__(self) -> None:
        self.key = OKPKey.generate_key("Ed25519", {"kid": uuid.uuid4().hex, "use": "sig"})

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
        **overrides: Any,
    ) -> str:
        """A token as identity would issue it; `overrides` replace claims, to make it wrong on purpose."""
        user = user_id or uuid.uuid4()
        service = kind is PrincipalKind.SERVICE
        principal = Principal(
            kind=kind,
            subject="service:test" if service else str(user),
            user_id=None if service else user,
            tenant_id=tenant_id,
            tenant_role=tenant_role,
            limit=frozenset(scopes),
            credential_id=credential_id or uuid.uuid4(),
            project_id=project_id,
        )
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

        @app.post("/internal/service-token")
        async def service_token(request: Request) -> dict[str, Any]:
            asked = await request.json()
            token = self.bearer(
                asked["audience"],
                tenant_id=uuid.UUID(asked["tenant_id"]),
                tenant_role="admin",
                kind=PrincipalKind.SERVICE,
            )
            return {"token": token, "expires_in": 300.0}

        return app
