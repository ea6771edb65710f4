"""Cursors of search results: which hits of one query's ranking earlier pages have shown. They hold no authority.

The next page is the best hits not shown yet, so nothing is shown twice, and nothing is left out because an earlier hit
was deleted meanwhile. An offset would shift when a hit is deleted, and scores change with the ranks and the term
statistics around them. A hit is identified by 32 bits of a hash of its chunk: the same in every generation of points.
Where hits are grouped, documents are what was shown.
"""

import base64
import binascii
import hashlib
import struct
from collections.abc import Collection
from typing import Final
from uuid import UUID

import orjson

from services.indexing.vectors.points import MAX_WINDOW, Hit
from shared.pagination import InvalidCursor

MAX_LENGTH: Final = 3_000

_FINGERPRINT_BYTES: Final = 9
_MARK_BYTES: Final = 4


def fingerprint(*parts: object) -> bytes:
    """Ties a cursor to its query: the cursor of another query would page through another ranking."""
    return hashlib.blake2b(orjson.dumps(parts), digest_size=_FINGERPRINT_BYTES).digest()


def mark(hit: Hit) -> int:
    chunk = hit.document_id.bytes + struct.pack("!II", hit.version, hit.chunk_index)
    return int.from_bytes(hashlib.blake2b(chunk, digest_size=_MARK_BYTES).digest())


def document_mark(document_id: UUID) -> int:
    """Of a document, where these are what a page shows."""
    return int.from_bytes(hashlib.blake2b(document_id.bytes, digest_size=_MARK_BYTES).digest())


def encode(shown: Collection[int], query: bytes) -> str:
    content = query + struct.pack(f"!{len(shown)}I", *sorted(shown))
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def decode(cursor: str | None, query: bytes) -> frozenset[int]:
    """Marks of the hits that were shown.

    Raises:
        InvalidCursor: not issued for this query.
    """
    if cursor is None:
        return frozenset()
    try:
        content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise InvalidCursor from error
    made_for, marks = content[:_FINGERPRINT_BYTES], content[_FINGERPRINT_BYTES:]
    count, rest = divmod(len(marks), _MARK_BYTES)
    if made_for != query or rest or not 0 < count <= MAX_WINDOW:
        raise InvalidCursor
    return frozenset(struct.unpack(f"!{count}I", marks))
