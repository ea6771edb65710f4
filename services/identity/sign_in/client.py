"""One provider as an OpenID Connect relying party sees it. The only module that knows Authlib.

Authorization code flow with PKCE (RFC 7636, S256): `authorization_url` sends the browser to the provider, `identity`
exchanges the code it comes back with for the signed-in user. Authlib's Starlette integration is not used: it keeps
state, nonce and verifier in a cookie that the browser can read.
"""

import hmac
from typing import Any, Final

import aiohttp
import httpx2
import orjson
from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuthError  # type: ignore[import-untyped]  # no stubs

from services.identity.settings import Provider
from services.identity.sign_in import id_tokens
from services.identity.sign_in.discovery import Discovery, ProviderMetadata
from services.identity.sign_in.errors import IdTokenInvalid, ProviderRefused, ProviderUnavailable
from services.identity.users.service import ExternalIdentity

_TIMEOUT_SECONDS: Final = 10.0
_LONGEST_NAME: Final = 200


class ProviderClient:
    """Made in the lifespan, one for each configured provider; `aclose` ends its connections."""

    def __init__(self, provider: Provider, redirect_uri: str, http: aiohttp.ClientSession) -> None:
        self.name = provider.name
        self.display_name = provider.display_name or provider.name
        self._provider = provider
        self._http = http
        self._discovery = Discovery(provider.issuer, http)
        self._oauth = AsyncOAuth2Client(
            client_id=provider.client_id,
            client_secret=provider.client_secret.get_secret_value(),
            scope=provider.scope,
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            timeout=_TIMEOUT_SECONDS,
            follow_redirects=False,
        )

    async def aclose(self) -> None:
        await self._oauth.aclose()

    async def authorization_url(self, *, state: str, nonce: str, code_verifier: str) -> str:
        """The address to send the browser to.

        Raises:
            ProviderUnavailable: the provider's metadata cannot be fetched.
        """
        metadata = await self._discovery.metadata()
        url, _state = self._oauth.create_authorization_url(
            metadata.authorization_endpoint, state=state, nonce=nonce, code_verifier=code_verifier
        )
        return str(url)

    async def check_issuer(self, given: str | None) -> None:
        """Check the `iss` a browser came back with (RFC 9207), against mixing up two providers.

        Raises:
            ProviderRefused: another issuer's, or missing where the provider promises it.
        """
        metadata = await self._discovery.metadata()
        required = metadata.authorization_response_iss_parameter_supported
        if (given is None and required) or (given is not None and given != metadata.issuer):
            raise ProviderRefused("iss of the authorization response differs")

    async def identity(self, *, code: str, code_verifier: str, nonce: str) -> ExternalIdentity:
        """Redeem a code and check the ID token that comes for it.

        Raises:
            ProviderRefused: the provider does not accept code, verifier or client.
            IdTokenInvalid: its response is not a token for this sign-in.
            ProviderUnavailable: it does not respond.
        """
        metadata = await self._discovery.metadata()
        tokens = await self._redeem(metadata, code, code_verifier)
        id_token = tokens.get("id_token")
        if not isinstance(id_token, str):
            raise IdTokenInvalid("there is none")
        claims = id_tokens.verified_claims(
            id_token,
            await self._discovery.keys(id_tokens.key_id(id_token)),
            issuer=metadata.issuer,
            client_id=self._provider.client_id,
            nonce=nonce,
            algorithms=metadata.id_token_signing_alg_values_supported,
        )
        if "email" not in claims and metadata.userinfo_endpoint is not None:
            claims = {**await self._userinfo(metadata.userinfo_endpoint, tokens, claims["sub"]), **claims}
        return _as_identity(claims)

    async def _redeem(self, metadata: ProviderMetadata, code: str, code_verifier: str) -> dict[str, Any]:
        methods = metadata.token_endpoint_auth_methods_supported
        method = "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"
        try:
            tokens = await self._oauth.fetch_token(
                metadata.token_endpoint,
                grant_type="authorization_code",
                code=code,
                code_verifier=code_verifier,
                auth=self._oauth.client_auth(method),
            )
        except OAuthError as error:
            raise ProviderRefused(f"the token endpoint answered {str(error.error)[:100]}") from error
        except (httpx2.HTTPError, ValueError) as error:
            raise ProviderUnavailable from error
        return dict(tokens)

    async def _userinfo(self, url: str, tokens: dict[str, Any], subject: str) -> dict[str, Any]:
        """Claims from the UserInfo endpoint (OpenID Connect Core 1.0, section 5.3), if they are about `subject`."""
        headers = {"Authorization": f"Bearer {tokens.get('access_token', '')}", "Accept": "application/json"}
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        try:
            async with self._http.get(url, headers=headers, timeout=timeout, allow_redirects=False) as answer:
                answer.raise_for_status()
                claims = orjson.loads(await answer.read())
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            raise ProviderUnavailable from error
        if not isinstance(claims, dict) or not hmac.compare_digest(str(claims.get("sub")).encode(), subject.encode()):
            raise IdTokenInvalid("userinfo is about somebody else")
        return claims


def _as_identity(claims: dict[str, Any]) -> ExternalIdentity:
    email, name = claims.get("email"), claims.get("name")
    return ExternalIdentity(
        issuer=claims["iss"],
        subject=claims["sub"],
        email=email if isinstance(email, str) and 3 <= len(email) <= 254 and "@" in email else None,
        # Some providers send the boolean as text. Anything else does not count as verified.
        email_verified=claims.get("email_verified") in (True, "true"),
        name=name.strip()[:_LONGEST_NAME] if isinstance(name, str) and name.strip() else None,
    )
