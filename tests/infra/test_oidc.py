"""The development provider: a whole sign-in, and the attempts that must not succeed."""

import base64
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from infra.local.environment import DEV_USER
from infra.local.ports import HOST, any_free
from infra.local.servers import OidcServer

CALLBACK = "http://127.0.0.1:8080/auth/callback/dev"


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[OidcServer]:

    server = OidcServer(any_free(), [DEV_USER], environment=os.environ)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(provider: OidcServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=provider.issuer) as made:
        yield made


class SignIn:
    """What a client remembers between the two halves of a sign-in."""

    def __init__(self) -> None:
        self.verifier = secrets.token_urlsafe(48)
        self.nonce = secrets.token_urlsafe(16)
        digest = hashlib.sha256(self.verifier.encode()).digest()
        self.query = {
            "response_type": "code",
            "client_id": "quarry",
            "redirect_uri": CALLBACK,
            "scope": "openid profile email",
            "state": secrets.token_urlsafe(16),
            "nonce": self.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }

    async def approve(self, client: httpx.AsyncClient, sub: str = "dev-user") -> str:
        """Sign in as `sub` in the provider's form; returns the code."""
        answer = await client.post("/oauth2/authorize", params=self.query, data={"sub": sub})
        assert answer.status_code == 302
        found = parse_qs(urlsplit(answer.headers["location"]).query)
        assert answer.headers["location"].startswith(CALLBACK)
        assert found["state"] == [self.query["state"]]
        return found["code"][0]

    async def redeem(self, client: httpx.AsyncClient, code: str, **changes: str) -> httpx.Response:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
        }
        return await client.post("/oauth2/token", data={**form, **changes}, auth=("quarry", "any secret"))


async def test_discovery_names_the_issuer_and_pkce(provider: OidcServer, client: httpx.AsyncClient) -> None:
    document = (await client.get("/.well-known/openid-configuration")).json()
    assert document["issuer"] == provider.issuer == f"http://{HOST}:{provider.port}"
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["token_endpoint"] == f"{provider.issuer}/oauth2/token"


async def test_a_sign_in_gives_an_id_token_with_nonce_and_verified_email(
    provider: OidcServer, client: httpx.AsyncClient
) -> None:
    attempt = SignIn()
    assert "dev-user" in (await client.get("/oauth2/authorize", params=attempt.query)).text
    tokens = (await attempt.redeem(client, await attempt.approve(client))).json()
    keys = KeySet.import_key_set((await client.get("/jwks")).json())
    claims = jwt.decode(tokens["id_token"], keys, algorithms=["RS256"]).claims
    assert claims["iss"] == provider.issuer
    assert claims["aud"] == ["quarry"] or claims["aud"] == "quarry"
    assert claims["nonce"] == attempt.nonce
    assert {key: claims[key] for key in DEV_USER} == DEV_USER
    authorization = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert (await client.get("/userinfo", headers=authorization)).json() == DEV_USER


async def test_a_name_nobody_has_used_is_somebody_with_a_verified_address(client: httpx.AsyncClient) -> None:
    for sub, email in (("zoe", "zoe@example.test"), ("eve@corp.test", "eve@corp.test")):
        attempt = SignIn()
        tokens = (await attempt.redeem(client, await attempt.approve(client, sub))).json()
        authorization = {"Authorization": f"Bearer {tokens['access_token']}"}
        claims = (await client.get("/userinfo", headers=authorization)).json()
        assert (claims["sub"], claims["email"], claims["email_verified"]) == (sub, email, True)


async def test_any_other_user_can_be_made_and_signed_in(client: httpx.AsyncClient) -> None:
    claims = {"email": "ann@example.test", "email_verified": False}
    assert (await client.put("/users/ann", json=claims)).status_code == 204
    attempt = SignIn()
    tokens = (await attempt.redeem(client, await attempt.approve(client, "ann"))).json()
    authorization = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert (await client.get("/userinfo", headers=authorization)).json() == {"sub": "ann", **claims}


@pytest.mark.parametrize("verifier", ["", "wrong" * 10, "ümlaut" * 10])
async def test_a_wrong_verifier_is_refused_and_uses_the_code_up(client: httpx.AsyncClient, verifier: str) -> None:
    attempt = SignIn()
    code = await attempt.approve(client)
    refused = await attempt.redeem(client, code, code_verifier=verifier)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert (await attempt.redeem(client, code)).json()["error"] == "invalid_grant"


async def test_a_code_is_good_for_one_use(client: httpx.AsyncClient) -> None:
    attempt = SignIn()
    code = await attempt.approve(client)
    assert (await attempt.redeem(client, code)).status_code == 200
    assert (await attempt.redeem(client, code)).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("change", [{"code_challenge_method": "plain"}, {"code_challenge": ""}])
async def test_a_request_without_s256_challenge_is_refused(client: httpx.AsyncClient, change: dict[str, str]) -> None:
    answer = await client.get("/oauth2/authorize", params={**SignIn().query, **change})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_denial_comes_back_as_an_error(client: httpx.AsyncClient) -> None:
    attempt = SignIn()
    answer = await client.post("/oauth2/authorize", params=attempt.query, data={"action": "deny"})
    assert answer.status_code == 302
    assert "error=access_denied" in answer.headers["location"]


async def test_refresh_needs_no_verifier(client: httpx.AsyncClient) -> None:
    attempt = SignIn()
    tokens = (await attempt.redeem(client, await attempt.approve(client))).json()
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert (await client.post("/oauth2/token", data=form, auth=("quarry", "x"))).status_code == 200
