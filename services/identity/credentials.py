"""Credentials that Quarry issues: how they are made, and the hashes that are kept of them."""

import hashlib
import hmac
import secrets
import uuid
from typing import Final

SECRET_BYTES: Final = 32
API_KEY_PREFIX: Final = "qk_"
_SHOWN: Final = 11  # the prefix and 48 of 256 bits: enough to recognise a key, far too little to guess it


def new_secret() -> str:
    """256 random bits, safe in URLs and cookies."""
    return secrets.token_urlsafe(SECRET_BYTES)


def new_api_key() -> str:
    return API_KEY_PREFIX + new_secret()


def shown_part(api_key: str) -> str:
    """The beginning of a key, by which its owner recognises it in a list."""
    return api_key[:_SHOWN]


def hashed(secret: str) -> bytes:
    """What is stored. The secrets are random, not chosen: no salt or slow hash is needed."""
    return hashlib.sha256(secret.encode()).digest()


def csrf_token(key: bytes, session_id: uuid.UUID) -> str:
    """The value that our pages send with every change, and that a page elsewhere cannot know."""
    return hmac.new(key, session_id.bytes, hashlib.sha256).hexdigest()
