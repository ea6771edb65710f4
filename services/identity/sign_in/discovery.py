"""What a provider publishes about itself (OpenID Connect Discovery 1.0) and the keys it signs with, cached.

Metadata is kept for an hour, keys until a token names one that is not among them; then they are fetched again, at most
every `_KEYS_EVERY` seconds, however many tokens with invented key ids arrive. A provider that cannot be reached, or
whose response does not fit, is a `ProviderUnavailable`; metadata fetched before stays in use.
"""

import asyncio
from typing import Any, Final

import aiohttp
import orjson
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet
from pydantic import BaseModel, ConfigDict, ValidationError

from services.identity.settings import SecureUrl
from services.identity.sign_in.errors import ProviderUnavailable
from shared.telemetry import get_logger

_log = get_logger(__name__)
_METADATA_SECONDS: Final = 3600.0
_KEYS_EVERY: Final = 10.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
_MOST_BYTES: Final = 512 * 1024


class ProviderMetadata(BaseModel):
    """The part of the discovery document that sign-in uses. An endpoint that is not secure is rejected."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    issuer: str
    authorization_endpoint: SecureUrl
    token_endpoint: SecureUrl
    jwks_uri: SecureUrl
    userinfo_endpoint: SecureUrl | None = None
    id_token_signing_alg_values_supported: tuple[str, ...] = ("RS256",)
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Discovery:
    """The metadata and keys of one issuer."""

    def __init__(self, issuer: str, http: aiohttp.ClientSession) -> None:
        self._issuer = issuer
        self._http = http
        self._lock = asyncio.Lock()
        self._metadata: ProviderMetadata | None = None
        self._metadata_until = 0.0
        self._keys: KeySet | None = None
        self._keys_not_before = 0.0

    async def metadata(self) -> ProviderMetadata:
        """Raises ProviderUnavailable: it cannot be fetched, and never was."""
        async with self._lock:
            if self._metadata is None or _now() >= self._metadata_until:
                try:
                    self._metadata = await self._fetch_metadata()
                except ProviderUnavailable:
                    if self._metadata is None:
                        raise
                self._metadata_until = _now() + _METADATA_SECONDS
            return self._metadata

    async def keys(self, kid: str | None) -> KeySet:
        """Keys that include `kid`, if the provider publishes it.

        Raises:
            ProviderUnavailable: they cannot be fetched, and never were.
        """
        metadata = await self.metadata()
        async with self._lock:
            missing = self._keys is None or (kid is not None and kid not in {key.kid for key in self._keys})
            if self._keys is None or (missing and _now() >= self._keys_not_before):
                self._keys = _signature_keys(await self._fetch(metadata.jwks_uri))
                self._keys_not_before = _now() + _KEYS_EVERY
            return self._keys

    async def _fetch_metadata(self) -> ProviderMetadata:
        document = await self._fetch(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        try:
            metadata = ProviderMetadata.model_validate(document)
        except ValidationError as error:
            raise ProviderUnavailable from error
        if metadata.issuer != self._issuer:
            raise ProviderUnavailable
        return metadata

    async def _fetch(self, url: str) -> Any:
        try:
            async with self._http.get(url, timeout=_TIMEOUT, allow_redirects=False) as answer:
                body = bytearray()
                async for chunk in answer.content.iter_chunked(65_536):
                    body += chunk
                    if answer.status != 200 or len(body) > _MOST_BYTES:
                        raise ProviderUnavailable
                return orjson.loads(body)
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            raise ProviderUnavailable from error


def _signature_keys(document: Any) -> KeySet:
    """The keys of a JWK set that verify signatures. Unknown key types are left out (RFC 7517, section 5)."""
    keys: list[Key] = []
    for item in document.get("keys", ()) if isinstance(document, dict) else ():
        try:
            if item.get("use", "sig") == "sig" and item.get("kty") != "oct":
                keys.extend(KeySet.import_key_set({"keys": [item]}))
        except (JoseError, ValueError, KeyError, TypeError, AttributeError):
            _log.info("key_left_out", kty=str(item)[:40])
    if not keys:
        raise ProviderUnavailable
    return KeySet(keys)


def _now() -> float:
    return asyncio.get_running_loop().time()
