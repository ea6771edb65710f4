"""Checking an ID token (OpenID Connect Core 1.0, section 3.1.3.7)."""

from typing import Any, Final

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from services.identity.sign_in.errors import IdTokenInvalid

LEEWAY_SECONDS: Final = 60
# Only signatures that a published key verifies: with `none` or a shared secret any client could be the issuer.
ASYMMETRIC: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
_MOST_BYTES: Final = 16_384


def key_id(id_token: str) -> str | None:
    """The key id an ID token names; nothing else in it is trusted before it is verified.

    Raises:
        IdTokenInvalid: not a compact JWS.
    """
    if len(id_token) > _MOST_BYTES:
        raise IdTokenInvalid("too long")
    try:
        kid = jws.extract_compact(id_token.encode()).headers().get("kid")
    except (JoseError, ValueError) as error:
        raise IdTokenInvalid("malformed") from error
    return kid if isinstance(kid, str) else None


def verified_claims(
    id_token: str, keys: KeySet, *, issuer: str, client_id: str, nonce: str, algorithms: tuple[str, ...]
) -> dict[str, Any]:
    """The claims of a token that this issuer made for this client and this sign-in.

    Raises:
        IdTokenInvalid: it is not such a token.
    """
    accepted = [name for name in algorithms if name in ASYMMETRIC]
    if not accepted:
        raise IdTokenInvalid("the provider signs with nothing we accept")
    try:
        claims = jwt.decode(id_token, keys, algorithms=accepted).claims
        registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        registry.validate(claims)
    except (JoseError, ValueError, TypeError) as error:
        raise IdTokenInvalid(f"{type(error).__name__}: {error}") from error
    audience, authorized = claims["aud"], claims.get("azp")
    if isinstance(audience, list) and len(audience) > 1 and authorized is None:
        raise IdTokenInvalid("several audiences and no azp")
    if authorized not in (None, client_id):
        raise IdTokenInvalid("azp is another client")
    if not 0 < len(claims["sub"]) <= 255:
        raise IdTokenInvalid("sub is not a subject")
    return dict(claims)
