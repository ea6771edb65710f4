"""A hash that is put away and taken up again is the hash of everything."""

import ctypes
import hashlib
import json
import random
import subprocess
import sys

import pytest

from services.projects.blobs import resumable_sha256
from services.projects.blobs.resumable_sha256 import ResumableSha256, available

needs_library = pytest.mark.usefixtures("library")


@pytest.fixture
def library() -> None:
    """Where it is missing nothing is resumed, and all of this is about resuming."""
    if not available():
        pytest.skip("no libcrypto with SHA256_Init")


@needs_library
@pytest.mark.parametrize("seed", range(8))
def test_it_equals_hashlib_wherever_it_is_put_away(seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(chance.randrange(20_000))
    digest, place = ResumableSha256(), 0
    while place < len(data):
        piece = data[place : place + chance.choice((0, 1, 55, 56, 63, 64, 65, 127, 128, chance.randrange(5000)))]
        digest.update(bytearray(piece))
        place += len(piece)
        assert digest.hexdigest() == hashlib.sha256(data[:place]).hexdigest()
        digest = ResumableSha256.resume(digest.state(), place)
    assert digest.hexdigest() == hashlib.sha256(data).hexdigest()


@needs_library
def test_another_process_takes_it_up() -> None:
    digest = ResumableSha256()
    digest.update(bytearray(b"x" * 1000))
    program = (
        "import json, sys; from services.projects.blobs.resumable_sha256 import ResumableSha256\n"
        "d = ResumableSha256.resume(json.load(sys.stdin), 1000); d.update(bytearray(b'y' * 77)); print(d.hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(digest.state()), text=True, capture_output=True, check=True
    )
    assert done.stdout.strip() == hashlib.sha256(b"x" * 1000 + b"y" * 77).hexdigest()


@needs_library
def test_a_size_beyond_32_bits_of_bits_is_kept() -> None:
    """What has been hashed matters only at the end, where its length is hashed too."""
    digest = ResumableSha256()
    digest.update(bytearray(64))
    resumed = ResumableSha256.resume(digest.state(), 64 + (1 << 32))
    assert (resumed._context.bits_low, resumed._context.bits_high) == (512, 8)


@needs_library
def test_a_state_of_another_size_is_refused() -> None:
    digest = ResumableSha256()
    digest.update(bytearray(b"abc"))
    with pytest.raises(ValueError, match="not the state"):
        ResumableSha256.resume(digest.state(), 4)
    with pytest.raises(ValueError, match="not the state"):
        ResumableSha256.resume("", 0)


@needs_library
@pytest.mark.parametrize("wrong", ["other layout", "writes more", "other digest"])
def test_a_library_that_differs_is_not_trusted(wrong: str) -> None:
    good = resumable_sha256._library()

    class Differing:
        def SHA256_Init(self, context: ctypes.Array[ctypes.c_char]) -> int:  # noqa: N802
            return int(good.SHA256_Init(context))

        def SHA256_Update(self, context: ctypes.Array[ctypes.c_char], data: bytes, size: ctypes.c_size_t) -> int:  # noqa: N802
            done = int(good.SHA256_Update(context, data, size))
            if wrong == "other layout":
                context[40] = bytes([context.raw[40] ^ 1])
            if wrong == "writes more":
                context[-1] = b"x"
            return done

        def SHA256_Final(self, result: ctypes.Array[ctypes.c_char], context: ctypes.Array[ctypes.c_char]) -> int:  # noqa: N802
            done = int(good.SHA256_Final(result, context))
            if wrong == "other digest":
                result[0] = bytes([result.raw[0] ^ 1])
            return done

    assert not resumable_sha256._equals_hashlib(Differing())
    assert resumable_sha256._equals_hashlib(good)
