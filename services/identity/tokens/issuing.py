"""Signing and, for identity's own endpoints, verifying internal tokens."""

import time
import uuid
from typing import Final

import aiohttp
from joserfc import jwt
from joserfc.jwk import KeySet

from services.identity.tokens.signing_keys import KeyRing
from shared.auth import ALGORITHM, ISSUER, TOKEN_TYPE, Principal, TokenVerifier
from shared.errors import Unauthenticated

_ALGORITHMS: Final = [ALGORITHM]


class TokenIssuer:
    """Makes tokens for services with the current key."""

    def __init__(self, ring: KeyRing, lifetime_seconds: int) -> None:
        self._ring = ring
        self._lifetime_seconds = float(lifetime_seconds)

    def lifetime(self, principal: Principal) -> float:
        """For how many seconds from now a token is valid: never longer than the credential it is issued for."""
        if principal.credential_until is None:
            return self._lifetime_seconds
        return max(0.0, min(self._lifetime_seconds, principal.credential_until.timestamp() - time.time()))

    def tokens(self, principal: Principal, audiences: tuple[str, ...]) -> dict[str, str]:
        """One token for each audience, valid for `lifetime` from now."""
        key = self._ring.signing_key()
        header = {"alg": ALGORITHM, "typ": TOKEN_TYPE, "kid": key.kid}
        now = time.time()
        claims = {"iss": ISSUER, "iat": int(now), "exp": int(now + self.lifetime(principal)), **principal.claims()}
        return {
            audience: jwt.encode(
                header, {**claims, "aud": audience, "jti": uuid.uuid4().hex}, key.private, algorithms=_ALGORITHMS
            )
            for audience in audiences
        }


class OwnTokenVerifier(TokenVerifier):
    """Verifies tokens with the keys in memory, instead of calling itself over HTTP: those for identity itself, or for a
    service that shows identity one."""

    def __init__(
        self, ring: KeyRing, identity_url: str, client: aiohttp.ClientSession, audience: str = "identity"
    ) -> None:
        super().__init__(audience, identity_url, client)
        self._ring = ring

    async def _keys_for(self, key_id: str) -> KeySet:
        keys = self._ring.key_set(key_id)
        if keys is None:
            raise Unauthenticated
        return keys
