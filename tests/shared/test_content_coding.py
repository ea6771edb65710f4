import gzip
from collections.abc import AsyncIterator

import pytest

from shared.content_coding import (
    FREE_BYTES,
    PIECE_BYTES,
    ExpandsTooFar,
    MalformedContentCoding,
    UnsupportedContentCoding,
    decoded,
    is_compressed,
)


async def cut(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def decode(content: bytes, size: int = 1000) -> bytes:
    return b"".join([piece async for piece in decoded(cut(content, size))])


@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
@pytest.mark.parametrize("length", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES])
async def test_what_was_compressed_comes_back_in_bounded_pieces(size: int, length: int) -> None:
    text = (b"".join(b"%d, " % number for number in range(length // 4 + 1)))[:length]
    pieces = [piece async for piece in decoded(cut(gzip.compress(text), size))]
    assert b"".join(pieces) == text
    assert max((len(piece) for piece in pieces), default=0) <= PIECE_BYTES


async def test_members_follow_each_other() -> None:
    assert await decode(gzip.compress(b"one ") + gzip.compress(b"two")) == b"one two"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"plain text",
        gzip.compress(b"some text" * 100)[:-1],
        gzip.compress(b"some text" * 100)[:20],
        gzip.compress(b"a") + b"garbage",
        gzip.compress(b"a")[:-8] + b"\0" * 8,
        gzip.compress(b"") * 1000,
    ],
    ids=["nothing", "plain", "cut at the end", "cut", "followed by something", "wrong sum", "empty members"],
)
async def test_what_is_no_whole_stream_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedContentCoding):
        await decode(content)


async def test_a_bomb_ends_early() -> None:
    made = 0
    with pytest.raises(ExpandsTooFar):
        async for piece in decoded(cut(gzip.compress(bytes(50 * FREE_BYTES)), 1000)):
            made += len(piece)
    assert made <= FREE_BYTES


def test_codings_are_taken_at_their_word() -> None:
    assert [is_compressed(header) for header in (None, "", "identity", "gzip", "GZIP", "x-gzip", "identity, gzip")] == [
        *(False, False, False, True, True, True, True)
    ]
    for header in ("br", "deflate", "zstd", "gzip, gzip", "gzip, br"):
        with pytest.raises(UnsupportedContentCoding):
            is_compressed(header)
