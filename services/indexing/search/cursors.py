"""Cursors of search results: a depth within the ranking of one query. They hold no authority of their own."""

import base64
import binascii
import hashlib

import orjson

from services.indexing.vectors.points import MAX_WINDOW
from shared.pagination import InvalidCursor

_FINGERPRINT_BYTES = 9


def fingerprint(*parts: object) -> str:
    """What a cursor is tied to: a cursor of another query would page through another ranking."""
    digest = hashlib.blake2b(orjson.dumps(parts), digest_size=_FINGERPRINT_BYTES).digest()
    return base64.urlsafe_b64encode(digest).decode()


def encode(offset: int, query: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([offset, query])).decode().rstrip("=")


def decode(cursor: str | None, query: str) -> int:
    """How deep in the ranking the page begins.

    Raises:
        InvalidCursor: not given out for this query.
    """
    if cursor is None:
        return 0
    try:
        offset, made_for = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidCursor from error
    if made_for != query or type(offset) is not int or not 0 < offset < MAX_WINDOW:
        raise InvalidCursor
    return offset
