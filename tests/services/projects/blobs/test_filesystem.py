import asyncio
import errno
import hashlib
import os
import stat
import sys
import threading
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.projects.blobs import files, resumable_sha256
from services.projects.blobs.files import BATCH_BYTES, PART, SUSPENDED, OpenFile
from services.projects.blobs.filesystem import FilesystemStore, open_store
from services.projects.blobs.store import BlobBusy, BlobKey, BlobStore, StorageFull, StorageUnavailable
from shared.errors import NotFound
from tests.support.polling import eventually

NOW = timedelta(0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemStore]:
    async with open_store(tmp_path / "blobs", 4) as made:
        yield made


@pytest.fixture
def key() -> BlobKey:
    return BlobKey(uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), 1)


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    return tmp_path / "blobs" / "incoming"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def read(store: BlobStore, key: BlobKey) -> bytes:
    blob = await store.open(key)
    try:
        return b"".join([chunk async for chunk in blob.chunks(0, blob.size)])
    finally:
        await blob.close()


async def kept(store: FilesystemStore, key: BlobKey, content: bytes = b"content") -> None:
    async with store.receive(key) as blob:
        await blob.write(content)
        await blob.seal()
        await blob.keep()


@pytest.mark.parametrize("size", [1, BATCH_BYTES - 1, BATCH_BYTES, 3 * BATCH_BYTES + 17])
async def test_what_is_written_is_read_again(store: FilesystemStore, key: BlobKey, incoming: Path, size: int) -> None:
    content = os.urandom(size)
    async with store.receive(key) as blob:
        for start in range(0, size, 70_001):
            await blob.write(memoryview(content)[start : start + 70_001])
        assert blob.size == size
        assert await blob.seal() == hashlib.sha256(content).hexdigest()
        assert names(incoming) == [key.incoming_name]
        assert await read(store, key) == content
        await blob.keep()
    assert names(incoming) == []
    assert await read(store, key) == content


async def test_sealing_makes_the_bytes_and_then_their_name_durable(
    store: FilesystemStore, key: BlobKey, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, list[str]]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        synced.append((kind, names(incoming)))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    async with store.receive(key) as blob:
        await blob.write(b"x")
        await blob.seal()
    assert synced == [("file", [key.incoming_name + ".part"]), ("folder", [key.incoming_name])]


async def test_a_block_that_is_left_before_sealing_leaves_nothing(
    store: FilesystemStore, key: BlobKey, incoming: Path
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.receive(key) as blob:
            await blob.write(bytes(BATCH_BYTES))
            assert names(incoming) == [key.incoming_name + ".part"]
            raise ZeroDivisionError
    assert names(incoming) == []


async def test_a_public_error_after_sealing_leaves_nothing(
    store: FilesystemStore, key: BlobKey, incoming: Path
) -> None:
    with pytest.raises(NotFound):
        async with store.receive(key) as blob:
            await blob.write(b"x")
            await blob.seal()
            raise NotFound
    assert names(incoming) == []


async def test_when_nobody_knows_whether_the_commit_happened_the_bytes_stay(
    store: FilesystemStore, key: BlobKey
) -> None:
    with pytest.raises(ConnectionError):
        async with store.receive(key) as blob:
            await blob.write(b"x")
            await blob.seal()
            raise ConnectionError
    assert await read(store, key) == b"x"
    assert await store.leftovers(NOW) == [key]


async def test_a_suspended_blob_goes_on_where_it_was(store: FilesystemStore, key: BlobKey, incoming: Path) -> None:
    content = os.urandom(2 * BATCH_BYTES)
    with pytest.raises(NotFound):
        async with store.receive(key) as blob:
            await blob.write(content[:1000])
            state = await blob.suspend()
            raise NotFound
    with pytest.raises(ZeroDivisionError):
        async with store.resume(key, state) as blob:
            assert blob.size == 1000
            await blob.write(bytes(BATCH_BYTES))
            raise ZeroDivisionError
    assert names(incoming) == [key.incoming_name + SUSPENDED]
    assert await store.leftovers(NOW) == [key]
    async with store.resume(key, state) as blob:
        await blob.write(content[1000:5000])
        state = await blob.suspend()
    async with store.resume(key, state) as blob:
        await blob.write(content[5000:])
        assert blob.size == len(content)
        assert await blob.seal() == hashlib.sha256(content).hexdigest()
        await blob.keep()
    assert names(incoming) == []
    assert await read(store, key) == content


async def test_a_resumed_blob_is_written_by_one_at_a_time(
    store: FilesystemStore, key: BlobKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BUSY_SECONDS", 0.1)
    async with store.receive(key) as blob:
        state = await blob.suspend()
    async with store.resume(key, state) as first:
        await first.write(b"first")
        with pytest.raises(BlobBusy):
            async with store.resume(key, state):
                pass
        waiting = asyncio.create_task(resumed_and_sealed(store, key, state, b"second"))
    assert await waiting == hashlib.sha256(b"second").hexdigest()


async def resumed_and_sealed(store: FilesystemStore, key: BlobKey, state: bytes, content: bytes) -> str:
    async with store.resume(key, state) as blob:
        await blob.write(content)
        return await blob.seal()


async def test_a_lock_dies_with_its_process(store: FilesystemStore, key: BlobKey, incoming: Path) -> None:
    async with store.receive(key) as blob:
        await blob.write(b"x")
        state = await blob.suspend()
    program = (
        "import fcntl, os, sys, time; fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX); "
        "print(flush=True); time.sleep(60)"
    )
    path = incoming / f"{key.incoming_name}{SUSPENDED}"
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(path), stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    await holder.stdout.readline()
    waiting = asyncio.create_task(resumed_and_sealed(store, key, state, b"y"))
    holder.kill()
    assert await waiting == hashlib.sha256(b"xy").hexdigest()
    await holder.wait()


async def test_what_was_sealed_and_not_recorded_is_resumed(store: FilesystemStore, key: BlobKey) -> None:
    async with store.receive(key) as blob:
        await blob.write(b"x" * 100)
        state = await blob.suspend()
    for _ in range(2):
        assert await resumed_and_sealed(store, key, state, b"") == hashlib.sha256(b"x" * 100).hexdigest()
    assert await read(store, key) == b"x" * 100


async def test_what_has_been_hashed_is_not_read_again(store: FilesystemStore, key: BlobKey, incoming: Path) -> None:
    async with store.receive(key) as blob:
        state = await blob.suspend()
    async with store.resume(key, state) as blob:
        await blob.write(b"x" * 100)
        state = await blob.suspend()
    (incoming / f"{key.incoming_name}{SUSPENDED}").write_bytes(b"y" * 100)
    hashed_again = hashlib.sha256(b"y" * 100 + b"z").hexdigest()
    kept_on = hashlib.sha256(b"x" * 100 + b"z").hexdigest()
    expected = kept_on if resumable_sha256.available() else hashed_again
    assert await resumed_and_sealed(store, key, state, b"z") == expected


async def test_fewer_bytes_than_were_durable_are_no_blob(store: FilesystemStore, key: BlobKey, incoming: Path) -> None:
    async with store.receive(key) as blob:
        await blob.write(b"x" * 100)
        state = await blob.suspend()
    (incoming / f"{key.incoming_name}{SUSPENDED}").write_bytes(b"x" * 99)
    with pytest.raises(StorageUnavailable):
        await resumed_and_sealed(store, key, state, b"y")


async def test_a_suspended_blob_is_removed(store: FilesystemStore, key: BlobKey, incoming: Path) -> None:
    other = BlobKey(key.tenant_id, key.project_id, uuid.uuid4(), 1)
    for each in (key, other):
        async with store.receive(each) as blob:
            await blob.write(b"x")
            state = await blob.suspend()
    await store.remove(key)
    async with store.resume(other, state) as blob:
        await blob.discard()
    assert names(incoming) == []
    with pytest.raises(StorageUnavailable):
        async with store.resume(key, state):
            pass


async def test_a_cancelled_upload_leaves_nothing_even_while_it_writes(
    store: FilesystemStore, key: BlobKey, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = threading.Event(), threading.Event()
    real = os.write

    def slow_write(descriptor: int, data: memoryview) -> int:
        writing.set()
        go_on.wait(10)
        return real(descriptor, data)

    async def upload() -> None:
        async with store.receive(key) as blob:
            await blob.write(bytes(BATCH_BYTES))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", slow_write)
        task = asyncio.create_task(upload())

        async def started() -> bool:
            return writing.is_set()

        await eventually(started)
        task.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert names(incoming) == []


async def test_a_blob_whose_reader_left_while_it_was_opened_is_closed(
    store: FilesystemStore, key: BlobKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store.receive(key) as blob:
        await blob.write(b"x")
        await blob.seal()
    go_on = threading.Event()
    opened: list[OpenFile] = []
    closed: list[OpenFile] = []
    real_open, real_close = FilesystemStore._open, OpenFile.close_now

    def slow_open(store: FilesystemStore, key: BlobKey) -> OpenFile:
        go_on.wait(10)
        opened.append(real_open(store, key))
        return opened[-1]

    def noted_close(blob: OpenFile) -> None:
        closed.append(blob)
        real_close(blob)

    monkeypatch.setattr(FilesystemStore, "_open", slow_open)
    monkeypatch.setattr(OpenFile, "close_now", noted_close)
    task = asyncio.create_task(store.open(key))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()

    async def all_closed() -> bool:
        return bool(opened) and closed == opened

    await eventually(all_closed)


async def test_readers_are_not_disturbed_by_moving_and_removing(store: FilesystemStore, key: BlobKey) -> None:
    content = os.urandom(1000)
    async with store.receive(key) as blob:
        await blob.write(content)
        await blob.seal()
        reader = await store.open(key)
        await blob.keep()
    await store.remove(key)
    assert b"".join([chunk async for chunk in reader.chunks(10, 20)]) == content[10:20]
    await reader.close()
    with pytest.raises(StorageUnavailable):
        await store.open(key)


async def test_a_file_that_shrank_is_an_error_not_a_short_answer(
    store: FilesystemStore, key: BlobKey, tmp_path: Path
) -> None:
    await kept(store, key)
    reader = await store.open(key)
    os.truncate(tmp_path / "blobs" / key.path, 3)
    with pytest.raises(StorageUnavailable):
        assert [chunk async for chunk in reader.chunks(0, reader.size)] == []
    await reader.close()


async def test_removing_leaves_no_folder_and_may_be_repeated(
    store: FilesystemStore, key: BlobKey, tmp_path: Path
) -> None:
    await kept(store, key)
    second = BlobKey(key.tenant_id, key.project_id, key.document_id, 2)
    await kept(store, second, b"two")
    await store.remove(key)
    assert await read(store, second) == b"two"
    await store.remove(second)
    await store.remove(second)
    assert names(tmp_path / "blobs" / str(key.tenant_id) / str(key.project_id)) == []
    await store.remove(BlobKey(uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), 1))


async def test_a_sealed_blob_is_removed_before_it_is_moved(
    store: FilesystemStore, key: BlobKey, incoming: Path
) -> None:
    async with store.receive(key) as blob:
        await blob.write(b"x")
        await blob.seal()
        await store.remove(key)
        await blob.keep()
    assert names(incoming) == []
    with pytest.raises(StorageUnavailable):
        await store.open(key)


async def test_leftovers_are_judged_by_their_age(store: FilesystemStore, key: BlobKey, incoming: Path) -> None:
    sealed, young = key.incoming_name, BlobKey(key.tenant_id, key.project_id, uuid.uuid4(), 1).incoming_name
    for name in (sealed, f"{sealed}.part", young, f"{young}.part", "stranger", f"{sealed}.9", "a.b.c.d"):
        (incoming / name).write_bytes(b"x")
        os.utime(incoming / name, (0, 0) if name not in (young, f"{young}.part") else None)
    assert await store.leftovers(timedelta(hours=1)) == [key]
    assert names(incoming) == sorted([sealed, young, f"{young}.part", "stranger", f"{sealed}.9", "a.b.c.d"])


async def test_an_upload_whose_part_was_taken_away_fails_instead_of_losing_bytes(
    store: FilesystemStore, key: BlobKey, incoming: Path
) -> None:
    with pytest.raises(StorageUnavailable):
        async with store.receive(key) as blob:
            await blob.write(bytes(BATCH_BYTES))
            assert await store.leftovers(-timedelta(hours=1)) == []
            await blob.seal()
    assert names(incoming) == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EIO, StorageUnavailable),
        (errno.EMFILE, StorageUnavailable),
    ],
)
async def test_errors_of_the_filesystem_are_told_apart_and_leave_nothing(
    store: FilesystemStore,
    key: BlobKey,
    incoming: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    expected: type[Exception],
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(expected):
            async with store.receive(key) as blob:
                await blob.write(b"x")
                await blob.seal()
    assert names(incoming) == []


async def test_a_move_that_fails_is_made_later(
    store: FilesystemStore, key: BlobKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    async with store.receive(key) as blob:
        await blob.write(b"x")
        await blob.seal()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", fail)
            await blob.keep()
    assert await read(store, key) == b"x"
    (left,) = await store.leftovers(NOW)
    await store.keep(left)
    assert await read(store, key) == b"x"
    assert await store.leftovers(NOW) == []


async def test_a_discard_that_fails_is_left_to_the_cleaner(
    store: FilesystemStore, key: BlobKey, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        with pytest.raises(ZeroDivisionError):
            async with store.receive(key) as blob:
                await blob.write(bytes(BATCH_BYTES))
                raise ZeroDivisionError
    assert names(incoming) == [key.incoming_name + ".part"]


async def test_a_link_in_the_store_is_not_followed(store: FilesystemStore, key: BlobKey, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    place = tmp_path / "blobs" / key.path
    place.parent.mkdir(parents=True)
    place.symlink_to(secret)
    with pytest.raises(StorageUnavailable):
        await store.open(key)


async def test_readiness_tells_when_the_store_cannot_be_written(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.check()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(RuntimeError):
        await store.check()


def test_keys_are_told_from_other_names(key: BlobKey) -> None:
    assert BlobKey.from_incoming_name(key.incoming_name) == key
    for name in ("", "x", "../../etc/passwd", key.incoming_name + ".part", key.incoming_name.upper(), "1.2.3.4"):
        assert BlobKey.from_incoming_name(name) is None
    assert PART not in key.incoming_name


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_tenant_whose_files_take_long_leaves_half_of_the_threads_to_others(
    store: FilesystemStore, key: BlobKey, leaves: bool
) -> None:
    other = BlobKey(uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), 1)
    await kept(store, other)
    disk, started = threading.Event(), list[int]()

    async def full() -> bool:
        return len(started) == 2

    def slow(number: int) -> None:
        started.append(number)
        disk.wait(20)

    flood = [asyncio.create_task(store.run(key.tenant_id, slow, number)) for number in range(8)]
    try:
        await eventually(full)
        if leaves:
            # Its threads go on all the same, and nobody waits for the others any more.
            for task in flood:
                task.cancel()
            flood += [asyncio.create_task(store.run(key.tenant_id, slow, number)) for number in range(8, 12)]
        assert await asyncio.wait_for(read(store, other), 10) == b"content"
        await asyncio.wait_for(store.remove(other), 10)
        assert started == [0, 1]
    finally:
        disk.set()
        await asyncio.gather(*flood, return_exceptions=True)


async def test_erasing_takes_no_thread_that_tenants_need(
    store: FilesystemStore, key: BlobKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kept(store, key)
    disk, started = threading.Event(), list[uuid.UUID]()

    async def full() -> bool:
        return len(started) == 2

    def slow(_store: FilesystemStore, tenant_id: uuid.UUID, _count: int) -> int:
        started.append(tenant_id)
        disk.wait(20)
        return 0

    monkeypatch.setattr(FilesystemStore, "_remove_some_of", slow)
    erasing = [asyncio.create_task(store.remove_some_of(uuid.uuid4(), count=1)) for _ in range(8)]
    try:
        await eventually(full)
        assert await asyncio.wait_for(read(store, key), 10) == b"content"
        assert len(started) == 2
    finally:
        disk.set()
        await asyncio.gather(*erasing)
