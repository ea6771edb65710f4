"""A SHA-256 (FIPS 180-4) that can be put away between two bytes and taken up by another process.

`hashlib` cannot do that, so the functions it is made of are called directly: those of OpenSSL's libcrypto that work on
a context whose layout is public (SHA256_Init(3)). They are trusted once their results equal `hashlib`'s. Where there is
no such library, or they differ, `available` is false, and what was hashed has to be read again.

Does not guarantee: that two threads may use one object at a time.
"""

import ctypes
import ctypes.util
import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, Self

_BLOCK: Final = 64
_NAMES: Final = ("libcrypto.so.3", "libcrypto.so", "libcrypto.3.dylib", "libcrypto-3-x64.dll")


class _Context(ctypes.Structure):
    """`SHA256_CTX`. `data` begins with the bytes of the block that is not full yet."""

    _fields_ = (
        ("h", ctypes.c_uint32 * 8),
        ("bits_low", ctypes.c_uint32),
        ("bits_high", ctypes.c_uint32),
        ("data", ctypes.c_ubyte * _BLOCK),
        ("pending", ctypes.c_uint),
        ("digest_size", ctypes.c_uint),
    )


class ResumableSha256:
    """Used where `available()`."""

    def __init__(self) -> None:
        self._library = _trusted()
        self._context = _Context()
        self._library.SHA256_Init(ctypes.byref(self._context))

    def update(self, data: bytearray) -> None:
        """Other Python threads run meanwhile."""
        if data:
            view = (ctypes.c_char * len(data)).from_buffer(data)
            self._library.SHA256_Update(ctypes.byref(self._context), view, ctypes.c_size_t(len(data)))

    def hexdigest(self) -> str:
        """Of everything so far, which may go on."""
        copy = _Context.from_buffer_copy(self._context)
        result = (ctypes.c_ubyte * hashlib.sha256().digest_size)()
        self._library.SHA256_Final(result, ctypes.byref(copy))
        return bytes(result).hex()

    def state(self) -> str:
        """What `resume` takes: the same on every machine, less than 256 characters."""
        context = self._context
        words = b"".join(int(word).to_bytes(4, "big") for word in context.h)
        return b64encode(words + bytes(context.data[: context.pending])).decode("ascii")

    @classmethod
    def resume(cls, state: str, size: int) -> Self:
        """As it was after `size` bytes, when `state` was called.

        Raises:
            ValueError: `state` is not that of so many bytes.
        """
        decoded = b64decode(state, validate=True)
        pending = decoded[32:]
        if len(decoded) < 32 or len(pending) != size % _BLOCK:
            raise ValueError("not the state of a hash of that many bytes")
        digest = cls()
        context, bits = digest._context, size * 8
        for place in range(8):
            context.h[place] = int.from_bytes(decoded[4 * place : 4 * place + 4], "big")
        context.bits_low, context.bits_high = bits & 0xFFFFFFFF, bits >> 32
        context.data[: len(pending)] = pending
        context.pending = len(pending)
        return digest


def available() -> bool:
    return _library() is not None


def _trusted() -> Any:
    library = _library()
    if library is None:
        raise RuntimeError("no library whose hash can be resumed")
    return library


@cache
def _library() -> Any:
    for name in _candidates():
        try:
            library = ctypes.CDLL(name)
            functions = (library.SHA256_Init, library.SHA256_Update, library.SHA256_Final)
        except (OSError, AttributeError):
            continue
        for function in functions:
            function.restype = ctypes.c_int
        if _equals_hashlib(library):
            return library
    return None


def _candidates() -> Iterator[str]:
    yield from _NAMES
    if found := ctypes.util.find_library("crypto"):
        yield found


def _equals_hashlib(library: Any) -> bool:
    """Whether the library fills a context as declared here, over the border of a block too."""
    sample, context = bytes(range(100)), _Context()
    # More than declared, should it write more.
    room = ctypes.create_string_buffer(ctypes.sizeof(_Context) + 256)
    library.SHA256_Init(room)
    library.SHA256_Update(room, sample, ctypes.c_size_t(len(sample)))
    ctypes.memmove(ctypes.byref(context), room, ctypes.sizeof(_Context))
    if room.raw[ctypes.sizeof(_Context) :].strip(b"\0"):
        return False
    if context.pending != len(sample) % _BLOCK or context.bits_low != len(sample) * 8:
        return False
    if bytes(context.data[: context.pending]) != sample[_BLOCK:]:
        return False
    result = ctypes.create_string_buffer(32)
    library.SHA256_Final(result, room)
    return result.raw == hashlib.sha256(sample).digest()
