"""A strict OpenID provider over real HTTP: it insists on exact redirect URIs, PKCE with S256, the client's secret and
single-use codes, keeps a log of what it was sent, and can be told to lie."""

import base64
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.support.serving import serve

CLIENT_ID = "quarry"
CLIENT_SECRET = "a secret with : and % in it"


class StrictProvider:
    """`person` signs in next. `lies` replace claims of ID tokens (None removes one), `metadata` parts of discovery."""

    url: str

    def __init__(self, redirect_uri: str) -> None:
        self.redirect_uri = redirect_uri
        self.key = RSAKey.generate_key(2048, {"kid": uuid.uuid4().hex, "use": "sig", "alg": "RS256"})
        self.reset()

    def reset(self) -> None:
        self.signing_key: Any = self.key
        self.forge: Callable[[dict[str, Any]], str] | None = None
        self.header: dict[str, Any] = {}
        self.lies: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.userinfo: dict[str, Any] | None = None
        self.answers_with_iss: str | None = None
        self.down = False
        self.keys_asked = 0
        self.authorizations: list[dict[str, str]] = []
        self.redemptions: list[dict[str, str]] = []
        self.codes: dict[str, dict[str, Any]] = {}
        self.person: dict[str, Any] = {}

    @classmethod
    @asynccontextmanager
    async def serving(cls, redirect_uri: str) -> AsyncIterator["StrictProvider"]:
        provider = cls(redirect_uri)
        async with serve(provider._app()) as url:
            provider.url = url
            yield provider

    def id_token(self, authorization: dict[str, Any]) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": authorization["nonce"],
            **authorization["person"],
            **self.lies,
        }
        honest = {name: value for name, value in claims.items() if value is not None}
        if self.forge is not None:
            return self.forge(honest)
        header = {"alg": "RS256", "kid": self.key.kid, **self.header}
        return jwt.encode(header, honest, self.signing_key, algorithms=[header["alg"]])

    def _discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "id_token_signing_alg_values_supported": ["RS256"],
            **self.metadata,
        }

    def _authorize(self, asked: dict[str, str]) -> Response:
        self.authorizations.append(asked)
        if asked["client_id"] != CLIENT_ID or asked["redirect_uri"] != self.redirect_uri:
            return JSONResponse({"error": "invalid_request"}, 400)
        if asked.get("code_challenge_method") != "S256" or not asked.get("code_challenge"):
            return JSONResponse({"error": "invalid_request"}, 400)
        code = uuid.uuid4().hex
        self.codes[code] = {**asked, "person": dict(self.person)}
        answer = {"code": code, "state": asked["state"], "session_state": "ignored"}
        if self.answers_with_iss:
            answer["iss"] = self.answers_with_iss
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 303)

    def _redeem(self, asked: dict[str, str], authorization: str) -> Response:
        self.redemptions.append(asked)
        if self.down:
            return Response("<html>", 502)
        expected = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if authorization != f"Basic {expected}":
            return JSONResponse({"error": "invalid_client"}, 401)
        known = self.codes.pop(asked.get("code", ""), None)
        digest = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if (
            known is None
            or known["code_challenge"] != challenge
            or asked.get("redirect_uri") != known["redirect_uri"]
            or asked.get("grant_type") != "authorization_code"
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        tokens = {"access_token": uuid.uuid4().hex, "token_type": "Bearer", "expires_in": 300}
        return JSONResponse({**tokens, "id_token": self.id_token(known)})

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/.well-known/openid-configuration")
        async def discovery() -> Response:
            return JSONResponse(self._discovery(), 503 if self.down else 200)

        @app.get("/jwks")
        async def jwks() -> dict[str, Any]:
            self.keys_asked += 1
            odd = {"kty": "XYZ", "kid": "of a kind nobody knows"}
            return {"keys": [odd, self.key.as_dict(private=False)]}

        @app.get("/authorize")
        async def authorize(request: Request) -> Response:
            return self._authorize(dict(request.query_params))

        @app.post("/token")
        async def redeem(request: Request) -> Response:
            form = {name: str(value) for name, value in (await request.form()).items()}
            return self._redeem(form, request.headers.get("authorization", ""))

        @app.post("/token-without-id")
        async def redeem_without_id() -> dict[str, str]:
            return {"access_token": "a", "token_type": "Bearer"}

        @app.post("/token-for-anybody")
        async def redeem_for_anybody() -> dict[str, str]:
            id_token = self.id_token({"nonce": "n", "person": {"sub": "anybody"}})
            return {"access_token": "a", "token_type": "Bearer", "id_token": id_token}

        @app.get("/userinfo")
        async def userinfo() -> Response:
            claims = self.userinfo or {name: value for name, value in self.person.items() if value is not None}
            return JSONResponse(claims)

        return app
