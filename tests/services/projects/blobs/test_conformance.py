"""What every store of blobs does."""

import asyncio
import hashlib
import os
import uuid
from datetime import timedelta

import pytest

from services.projects.blobs.store import BlobKey, BlobStore, StorageUnavailable
from shared.errors import NotFound
from tests.services.projects.blobs.conftest import PART_BYTES, Held

NOW = timedelta(0)
HOUR = timedelta(hours=1)


def another(key: BlobKey) -> BlobKey:
    return BlobKey(key.tenant_id, key.project_id, uuid.uuid4(), 1)


async def read(store: BlobStore, key: BlobKey, start: int = 0, end: int | None = None) -> bytes:
    blob = await store.open(key)
    try:
        return b"".join([chunk async for chunk in blob.chunks(start, blob.size if end is None else end)])
    finally:
        await blob.close()


async def sealed(store: BlobStore, key: BlobKey, content: bytes = b"content") -> None:
    async with store.receive(key) as blob:
        await blob.write(content)
        await blob.seal()


async def kept(store: BlobStore, key: BlobKey, content: bytes = b"content") -> None:
    await sealed(store, key, content)
    await store.keep(key)


async def suspended(store: BlobStore, key: BlobKey, content: bytes = b"content") -> bytes:
    async with store.receive(key) as blob:
        await blob.write(content)
        return await blob.suspend()


@pytest.mark.parametrize("size", [1, PART_BYTES - 1, PART_BYTES, 2 * PART_BYTES + 17])
async def test_what_is_written_is_read_again(held: Held, key: BlobKey, size: int) -> None:
    content = os.urandom(size)
    async with held.store.receive(key) as blob:
        for start in range(0, size, 7001):
            await blob.write(memoryview(content)[start : start + 7001])
        assert blob.size == size
        assert await blob.seal() == hashlib.sha256(content).hexdigest()
        assert await read(held.store, key) == content
        await blob.keep()
    assert await held.names() == [key.path]
    assert await read(held.store, key) == content
    assert await held.store.leftovers(NOW) == []


async def test_a_part_of_a_blob_is_read(held: Held, key: BlobKey) -> None:
    content = os.urandom(PART_BYTES)
    await kept(held.store, key, content)
    for start, end in ((0, 1), (5, PART_BYTES // 2 + 9), (PART_BYTES - 3, PART_BYTES), (7, 7)):
        assert await read(held.store, key, start, end) == content[start:end]


@pytest.mark.parametrize("size", [1, PART_BYTES + 1])
@pytest.mark.parametrize("seals", [False, True])
async def test_a_block_that_fails_leaves_nothing(held: Held, key: BlobKey, size: int, seals: bool) -> None:
    with pytest.raises(NotFound):
        async with held.store.receive(key) as blob:
            await blob.write(bytes(size))
            if seals:
                await blob.seal()
            raise NotFound
    assert await held.names() == []


async def test_when_nobody_knows_whether_the_commit_happened_the_bytes_stay(held: Held, key: BlobKey) -> None:
    with pytest.raises(ConnectionError):
        async with held.store.receive(key) as blob:
            await blob.write(b"x")
            await blob.seal()
            raise ConnectionError
    assert await read(held.store, key) == b"x"
    assert await held.store.leftovers(HOUR) == []
    assert await held.store.leftovers(NOW) == [key]
    await held.store.keep(key)
    assert await held.store.leftovers(NOW) == []
    assert await read(held.store, key) == b"x"


@pytest.mark.parametrize("size", [1, PART_BYTES + 1])
async def test_an_upload_that_nobody_ended_is_removed_and_cannot_be_sealed(held: Held, key: BlobKey, size: int) -> None:
    """As after a crash of its process, which then comes back."""
    with pytest.raises(ZeroDivisionError):
        async with held.store.receive(key) as blob:
            await blob.write(bytes(size))
            before = await held.names()
            assert await held.store.leftovers(HOUR) == []
            assert await held.names() == before
            assert await held.store.leftovers(-HOUR) == []
            assert await held.names() == []
            if size > PART_BYTES:
                with pytest.raises(StorageUnavailable):
                    await blob.seal()
            raise ZeroDivisionError
    assert await held.names() == []


async def test_a_cancelled_upload_leaves_nothing(held: Held, key: BlobKey) -> None:
    arrived = asyncio.Event()

    async def upload() -> None:
        async with held.store.receive(key) as blob:
            await blob.write(bytes(PART_BYTES))
            arrived.set()
            await blob.write(bytes(PART_BYTES))
            await asyncio.Event().wait()

    task = asyncio.create_task(upload())
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await held.names() == []


async def test_removing_may_be_repeated_and_leaves_the_others(held: Held, key: BlobKey) -> None:
    second = BlobKey(key.tenant_id, key.project_id, key.document_id, 12)
    await kept(held.store, key)
    await sealed(held.store, second, b"two")
    await held.store.remove(key)
    await held.store.remove(key)
    assert await read(held.store, second) == b"two"
    await held.store.remove(second)
    assert await held.names() == []
    for gone in (key, second):
        with pytest.raises(StorageUnavailable):
            await held.store.open(gone)


async def test_a_blob_removed_before_it_is_kept_stays_away(held: Held, key: BlobKey) -> None:
    async with held.store.receive(key) as blob:
        await blob.write(b"x")
        await blob.seal()
        await held.store.remove(key)
        await blob.keep()
    assert await held.names() == []


async def test_all_blobs_of_a_tenant_are_removed_some_at_a_time(held: Held, key: BlobKey) -> None:
    mine = [another(key) for _ in range(5)]
    for each in mine[:3]:
        await kept(held.store, each)
    await sealed(held.store, mine[3])
    await suspended(held.store, mine[4], bytes(PART_BYTES + 1))
    foreign = [BlobKey(uuid.uuid4(), key.project_id, key.document_id, 1) for _ in range(2)]
    await kept(held.store, foreign[0])
    await sealed(held.store, foreign[1])
    removed = []
    while count := await held.store.remove_some_of(key.tenant_id, count=2):
        removed.append(count)
    assert max(removed) == 2
    assert not [name for name in await held.names() if str(key.tenant_id) in name]
    for each in foreign:
        assert await read(held.store, each) == b"content"


@pytest.mark.parametrize("parts", [(0, 5, 0, 7), (PART_BYTES - 1, 2, PART_BYTES + 5)])
async def test_a_suspended_blob_goes_on_where_it_was(held: Held, key: BlobKey, parts: tuple[int, ...]) -> None:
    content = os.urandom(sum(parts))
    state = await suspended(held.store, key, content[: parts[0]])
    size = parts[0]
    for count in parts[1:]:
        with pytest.raises(ZeroDivisionError):
            async with held.store.resume(key, state) as blob:
                await blob.write(bytes(PART_BYTES + 3))
                raise ZeroDivisionError
        async with held.store.resume(key, state) as blob:
            assert blob.size == size
            await blob.write(content[size : size + count])
            state = await blob.suspend()
        assert len(state) < 64 * 1024
        size += count
    async with held.store.resume(key, state) as blob:
        assert await blob.seal() == hashlib.sha256(content).hexdigest()
        await blob.keep()
    assert await read(held.store, key) == content
    assert await held.names() == [key.path]


async def test_a_state_that_was_not_recorded_is_as_if_it_had_not_been(held: Held, key: BlobKey) -> None:
    state = await suspended(held.store, key, b"one")
    async with held.store.resume(key, state) as blob:
        await blob.write(b"lost")
        await blob.suspend()
    async with held.store.resume(key, state) as blob:
        await blob.write(b"two")
        await blob.seal()
        await blob.keep()
    assert await read(held.store, key) == b"onetwo"
    assert await held.names() == [key.path]


async def test_a_suspended_blob_stays_until_its_row_decides(held: Held, key: BlobKey) -> None:
    with pytest.raises(NotFound):
        async with held.store.receive(key) as blob:
            await blob.write(bytes(PART_BYTES + 1))
            state = await blob.suspend()
            raise NotFound
    assert await held.store.leftovers(HOUR) == []
    assert await held.store.leftovers(NOW) == [key]
    await held.store.keep(key)
    async with held.store.resume(key, state) as blob:
        assert blob.size == PART_BYTES + 1
    await held.store.remove(key)
    assert await held.names() == []
    with pytest.raises(StorageUnavailable):
        async with held.store.resume(key, state):
            pass


async def test_a_suspended_blob_is_discarded(held: Held, key: BlobKey) -> None:
    state = await suspended(held.store, key, bytes(PART_BYTES + 1))
    async with held.store.resume(key, state) as blob:
        await blob.write(b"x")
        await blob.discard()
    assert await held.names() == []


async def test_the_store_is_ready(held: Held) -> None:
    await held.store.check()
