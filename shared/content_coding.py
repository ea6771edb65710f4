"""Request bodies that are sent compressed (RFC 9110, section 8.4): `gzip` is decoded as it arrives, nothing else is.

Bounds: memory is one piece, whatever the body claims to be. Decoded data is passed on in pieces, so the receiver's size
limit ends the work; a body that grows more than `MAX_RATIO` times, or is made of members without content, is refused
before it is written anywhere.
"""

import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

from shared.errors import InvalidRequest, TooLarge, UnsupportedMediaType

ACCEPTED: Final = "gzip"
"""The value of `Accept-Encoding` in the response to a request with any other coding."""
PIECE_BYTES: Final = 64 * 1024
MAX_RATIO: Final = 200
# A small body may well be one word repeated.
FREE_BYTES: Final = 1024 * 1024
_GZIP: Final = zlib.MAX_WBITS | 16
# The smallest possible member has 20 bytes. Real writers make them much larger: bgzip's have up to 64 KiB.
_MEMBER_BYTES: Final = 256
_FREE_MEMBERS: Final = 16


class UnsupportedContentCoding(UnsupportedMediaType):
    code = "unsupported_content_encoding"
    detail = "Send the body uncompressed, or with `Content-Encoding: gzip`."

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail)
        self.headers["Accept-Encoding"] = ACCEPTED


class MalformedContentCoding(InvalidRequest):
    code = "malformed_content_encoding"
    detail = "The body is not a valid gzip stream, or is incomplete."


class ExpandsTooFar(TooLarge):
    detail = f"The body expands more than {MAX_RATIO} times when decompressed."


def is_compressed(header: str | None) -> bool:
    """Whether a body with this `Content-Encoding` has to be decoded.

    Raises:
        UnsupportedContentCoding: with something other than gzip, or encoded more than once.
    """
    codings = [coding.strip().lower() for coding in (header or "").split(",")]
    applied = [coding for coding in codings if coding not in ("", "identity")]
    if not applied:
        return False
    if applied not in (["gzip"], ["x-gzip"]):
        raise UnsupportedContentCoding
    return True


async def decoded(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The content of a gzip stream, in pieces of at most `PIECE_BYTES`.

    Raises:
        MalformedContentCoding: damaged, truncated, or followed by something else.
        ExpandsTooFar: out of proportion to what was sent.
    """
    gunzip = _Gunzip()
    async for chunk in chunks:
        for piece in gunzip.feed(chunk):
            yield piece
    gunzip.finish()


class _Gunzip:
    """One or more consecutive members (RFC 1952, section 2.2), as `gzip -c a b` writes them."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._begun = False
        self._members = 0
        self._received = 0
        self._made = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        self._received += len(chunk)
        waiting, piece = chunk, b""
        # After a full piece the decompressor may hold more of it, with no input left.
        while waiting or len(piece) == PIECE_BYTES:
            self._begun = self._begun or bool(waiting)
            try:
                piece = self._member.decompress(waiting, PIECE_BYTES)
            except zlib.error as error:
                raise MalformedContentCoding from error
            if piece:
                self._made += len(piece)
                if self._made > max(FREE_BYTES, MAX_RATIO * self._received):
                    raise ExpandsTooFar
                yield piece
            if self._member.eof:
                waiting = self._member.unused_data
                self._next_member()
            else:
                waiting = self._member.unconsumed_tail

    def finish(self) -> None:
        if self._begun or not self._members:
            raise MalformedContentCoding

    def _next_member(self) -> None:
        self._members += 1
        if self._members > _FREE_MEMBERS + self._received // _MEMBER_BYTES:
            raise MalformedContentCoding("The gzip stream has too many members.")
        self._member, self._begun = zlib.decompressobj(_GZIP), False
