"""What is believed of a provider's own description, and how often it is asked."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from services.identity.settings import Provider
from services.identity.sign_in import discovery
from services.identity.sign_in.client import ProviderClient
from services.identity.sign_in.discovery import Discovery
from services.identity.sign_in.errors import IdTokenInvalid, ProviderRefused, ProviderUnavailable
from services.identity.sign_in.id_tokens import verified_claims
from tests.services.identity.provider import StrictProvider


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://issuer.elsewhere.test"},
        {"token_endpoint": "http://issuer.elsewhere.test/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": None},
        {"padding": "x" * 600_000},
    ],
    ids=lambda metadata: next(iter(metadata)),
)
async def test_a_description_that_does_not_fit_is_not_believed(
    provider: StrictProvider, http: aiohttp.ClientSession, metadata: dict[str, Any]
) -> None:
    provider.metadata = metadata
    with pytest.raises(ProviderUnavailable):
        await Discovery(provider.url, http).metadata()


async def test_a_provider_that_is_not_there_is_unavailable(http: aiohttp.ClientSession) -> None:
    with pytest.raises(ProviderUnavailable):
        await Discovery("http://127.0.0.1:1", http).metadata()


async def test_what_is_known_goes_on_being_used(
    provider: StrictProvider, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "_METADATA_SECONDS", 0.0)
    known = Discovery(provider.url, http)
    before = await known.metadata()
    provider.down = True
    assert await known.metadata() == before
    with pytest.raises(ProviderUnavailable):
        await Discovery(provider.url, http).metadata()


async def test_unknown_key_ids_do_not_make_us_ask_again_and_again(
    provider: StrictProvider, http: aiohttp.ClientSession
) -> None:
    known = Discovery(provider.url, http)
    for index in range(5):
        await known.keys(f"invented {index}")
    assert provider.keys_asked == 1


async def test_a_new_key_is_found_when_a_token_names_it(
    provider: StrictProvider, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "_KEYS_EVERY", 0.0)
    known = Discovery(provider.url, http)
    await known.keys(provider.key.kid)
    await known.keys(provider.key.kid)
    assert provider.keys_asked == 1
    await known.keys("new")
    assert provider.keys_asked == 2


async def test_a_provider_without_a_usable_key_is_unavailable(
    provider: StrictProvider, http: aiohttp.ClientSession
) -> None:
    provider.metadata = {"jwks_uri": f"{provider.url}/userinfo"}
    provider.userinfo = {"keys": [{"kty": "oct", "k": "c2VjcmV0"}, {"kty": "RSA", "use": "enc"}, "nonsense"]}
    with pytest.raises(ProviderUnavailable):
        await Discovery(provider.url, http).keys(None)


async def test_a_provider_that_signs_with_nothing_we_accept_is_refused(
    provider: StrictProvider, http: aiohttp.ClientSession
) -> None:
    keys = await Discovery(provider.url, http).keys(None)
    token = provider.id_token({"nonce": "n", "person": {"sub": "s"}})
    with pytest.raises(IdTokenInvalid):
        verified_claims(token, keys, issuer=provider.url, client_id="quarry", nonce="n", algorithms=("none", "HS256"))


async def client_for(provider: StrictProvider, http: aiohttp.ClientSession, **changes: str) -> ProviderClient:
    configured = {"name": "p", "issuer": provider.url, "client_id": "quarry", "client_secret": "secret", **changes}
    return ProviderClient(Provider.model_validate(configured), provider.redirect_uri, http)


async def test_a_promised_issuer_must_come_back(provider: StrictProvider, http: aiohttp.ClientSession) -> None:
    provider.metadata = {"authorization_response_iss_parameter_supported": True}
    client = await client_for(provider, http)
    with pytest.raises(ProviderRefused):
        await client.check_issuer(None)
    await client.check_issuer(provider.url)
    await client.aclose()


async def test_the_client_secret_goes_into_the_form_where_the_provider_wants_it(
    provider: StrictProvider, http: aiohttp.ClientSession
) -> None:
    provider.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    client = await client_for(provider, http)
    with pytest.raises(ProviderRefused):
        await client.identity(code="x", code_verifier="x", nonce="x")
    assert provider.redemptions[-1]["client_secret"] == "secret"
    await client.aclose()


async def test_an_answer_without_an_id_token_is_refused(provider: StrictProvider, http: aiohttp.ClientSession) -> None:
    provider.metadata = {"token_endpoint": f"{provider.url}/token-without-id"}
    client = await client_for(provider, http)
    with pytest.raises(IdTokenInvalid):
        await client.identity(code="x", code_verifier="x", nonce="x")
    await client.aclose()


async def test_userinfo_that_cannot_be_had_is_unavailable(
    provider: StrictProvider, http: aiohttp.ClientSession
) -> None:
    provider.metadata = {
        "userinfo_endpoint": f"{provider.url}/nowhere",
        "token_endpoint": f"{provider.url}/token-for-anybody",
    }
    client = await client_for(provider, http)
    with pytest.raises(ProviderUnavailable):
        await client.identity(code="x", code_verifier="x", nonce="n")
    await client.aclose()
