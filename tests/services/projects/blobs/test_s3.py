"""What the store in a bucket does when the server or the network fails."""

import asyncio
import hashlib
import os
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import orjson
import pytest

from services.projects.blobs import resumable_sha256
from services.projects.blobs.s3 import incoming
from services.projects.blobs.s3.incoming import INCOMING
from services.projects.blobs.s3.store import S3Store, open_store
from services.projects.blobs.store import BlobKey, StorageFull, StorageUnavailable
from shared.errors import NotFound
from tests.services.projects.blobs.conftest import PART_BYTES
from tests.services.projects.blobs.s3_server import Fault, S3Server
from tests.services.projects.blobs.test_conformance import another, kept, read, sealed, suspended
from tests.support.polling import eventually

NOW = timedelta(0)
LATER = timedelta(hours=-1)
MARK, OBJECT, PART = f"/{INCOMING}", r"/1(\?x-id=PutObject)?$", "partNumber=2"
BEGIN, COMPLETE = r"\?uploads", r"\?uploadId="
SIZE = 2 * PART_BYTES + 17
REAL_PART_BYTES = incoming.PART_BYTES


@pytest.fixture
async def store(s3_server: S3Server) -> AsyncIterator[S3Store]:
    async with open_store(s3_server.access, connections=4, buffers=4) as made:
        yield made


STEPS = [
    ("PUT", MARK, 1),
    ("PUT", OBJECT, 1),
    ("POST", BEGIN, SIZE),
    ("PUT", PART, SIZE),
    ("POST", COMPLETE, SIZE),
]


@pytest.mark.parametrize(("method", "path", "size"), STEPS)
async def test_passing_failures_are_not_noticed(
    store: S3Store, s3_server: S3Server, key: BlobKey, method: str, path: str, size: int
) -> None:
    content = os.urandom(size)
    for fault in (Fault.ERROR, Fault.CUT, Fault.LOST):
        s3_server.fail(method, path, fault, times=1)
    async with store.receive(key) as blob:
        await blob.write(content)
        assert await blob.seal() == hashlib.sha256(content).hexdigest()
        await blob.keep()
    assert [plan.times for plan in s3_server.planned] == [0, 0, 0]
    assert await read(store, key) == content
    assert await s3_server.names() == [key.path]


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.LOST])
@pytest.mark.parametrize(("method", "path", "size"), STEPS)
async def test_a_lasting_failure_is_an_error_and_leaves_nothing(
    store: S3Store, s3_server: S3Server, key: BlobKey, fault: Fault, method: str, path: str, size: int
) -> None:
    s3_server.fail(method, path, fault)
    with pytest.raises(StorageUnavailable):
        await sealed(store, key, os.urandom(size))
    # What may have its effect yet is marked until the cleaner has looked at it.
    assert set(await s3_server.names()) <= {f"{INCOMING}{key.incoming_name}"}
    s3_server.heal()
    with pytest.raises(StorageUnavailable):
        await store.open(key)
    assert await store.leftovers(LATER) == []
    assert await s3_server.names() == []


@pytest.mark.parametrize("size", [1, SIZE])
async def test_a_server_that_is_away_is_found_with_what_it_was_left_with(
    store: S3Store, s3_server: S3Server, key: BlobKey, size: int
) -> None:
    with pytest.raises(StorageUnavailable):
        async with store.receive(key) as blob:
            await blob.write(bytes(size))
            for method in ("PUT", "POST", "GET", "DELETE", "HEAD"):
                s3_server.fail(method, "", Fault.ERROR)
            await blob.seal()
    s3_server.heal()
    assert await store.leftovers(LATER) == []
    assert await s3_server.names() == []


async def test_a_request_that_has_its_effect_later_is_found(store: S3Store, s3_server: S3Server, key: BlobKey) -> None:
    s3_server.fail("PUT", OBJECT, Fault.LATE)
    with pytest.raises(StorageUnavailable):
        await sealed(store, key)
    s3_server.go_on.set()

    async def there() -> bool:
        return key.path in await s3_server.names()

    await eventually(there)
    assert await store.leftovers(NOW) == [key]
    await store.remove(key)
    assert await s3_server.names() == []


@pytest.mark.parametrize(("path", "size"), [(OBJECT, 1), (PART, SIZE)])
async def test_bytes_that_changed_on_their_way_are_sent_again(
    store: S3Store, s3_server: S3Server, key: BlobKey, path: str, size: int
) -> None:
    content = os.urandom(size)
    s3_server.fail("PUT", path, Fault.CORRUPT, times=2)
    await kept(store, key, content)
    assert not s3_server.planned[0].times
    assert await read(store, key) == content


@pytest.mark.parametrize(("fault", "expected"), [(Fault.FULL, StorageFull), (Fault.DENIED, StorageUnavailable)])
@pytest.mark.parametrize(("path", "size"), [(MARK, 1), (OBJECT, 1), (PART, SIZE)])
async def test_what_will_not_pass_is_not_repeated(
    store: S3Store, s3_server: S3Server, key: BlobKey, fault: Fault, expected: type[Exception], path: str, size: int
) -> None:
    s3_server.fail("PUT", path, fault, times=1)
    with pytest.raises(expected) as raised:
        await sealed(store, key, bytes(size))
    assert type(raised.value) is expected
    assert await s3_server.names() == []


async def test_a_response_that_does_not_come_is_not_waited_for(s3_server: S3Server, key: BlobKey) -> None:
    s3_server.fail("PUT", OBJECT, Fault.SILENT, times=1)
    async with open_store(s3_server.access, connections=4, buffers=4, seconds=1) as store:
        await kept(store, key)
        assert await read(store, key) == b"content"


async def test_a_response_that_is_cut_is_asked_for_again(store: S3Store, s3_server: S3Server, key: BlobKey) -> None:
    content = os.urandom(SIZE)
    await kept(store, key, content)
    s3_server.fail("GET", key.path, Fault.SHORT, times=2)
    assert await read(store, key) == content
    s3_server.fail("GET", key.path, Fault.SHORT)
    with pytest.raises(StorageUnavailable):
        await read(store, key)


async def test_a_blob_removed_while_it_is_read_ends_in_an_error(store: S3Store, key: BlobKey) -> None:
    await kept(store, key, bytes(SIZE))
    reader = await store.open(key)
    chunks = reader.chunks(0, reader.size)
    assert len(await anext(chunks)) == PART_BYTES // 2
    await store.remove(key)
    with pytest.raises(StorageUnavailable):
        await anext(chunks)


async def test_a_suspended_upload_survives_failures(store: S3Store, s3_server: S3Server, key: BlobKey) -> None:
    content = os.urandom(SIZE)
    state = await suspended(store, key, content[:PART_BYTES])
    for method, path in (("PUT", PART), ("PUT", MARK), ("GET", "")):
        s3_server.fail(method, path, Fault.ERROR)
        with pytest.raises(StorageUnavailable):
            async with store.resume(key, state) as blob:
                await blob.write(content[PART_BYTES:])
                await blob.suspend()
        s3_server.heal()
    async with store.resume(key, state) as blob:
        await blob.write(content[PART_BYTES:])
        assert await blob.seal() == hashlib.sha256(content).hexdigest()
        await blob.keep()
    assert await read(store, key) == content
    assert await s3_server.names() == [key.path]


@pytest.mark.parametrize("size", [17, SIZE])
async def test_an_upload_that_was_sealed_without_a_record_is_sealed_again(
    store: S3Store, s3_server: S3Server, key: BlobKey, size: int
) -> None:
    content = os.urandom(size)
    state = await suspended(store, key, content)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            async with store.resume(key, state) as blob:
                assert blob.size == size
                assert await blob.seal() == hashlib.sha256(content).hexdigest()
                raise ZeroDivisionError
    async with store.resume(key, state) as blob:
        await blob.seal()
        await blob.keep()
    assert await read(store, key) == content
    assert await s3_server.names() == [key.path]


@pytest.mark.parametrize("available", [True, False])
async def test_a_resumed_upload_is_read_back_where_its_digest_cannot_be_taken_up(
    store: S3Store, s3_server: S3Server, key: BlobKey, monkeypatch: pytest.MonkeyPatch, available: bool
) -> None:
    monkeypatch.setattr(resumable_sha256, "available", lambda: available)
    content = os.urandom(2 * PART_BYTES)
    state = await suspended(store, key, b"")
    async with store.resume(key, state) as blob:
        await blob.write(content[:PART_BYTES])
        state = await blob.suspend()
    async with store.resume(key, state) as blob:
        await blob.write(content[PART_BYTES:])
        assert await blob.seal() == hashlib.sha256(content).hexdigest()
    gets = [
        path for method, path in s3_server.seen if method == "GET" and path.partition("?x-id")[0].endswith(key.path)
    ]
    assert bool(gets) is not available


async def test_a_part_with_other_bytes_than_recorded_is_noticed(
    store: S3Store, s3_server: S3Server, key: BlobKey
) -> None:
    state = await suspended(store, key, b"")
    async with store.resume(key, state) as blob:
        await blob.write(bytes(PART_BYTES))
        state = await blob.suspend()
    upload = orjson.loads(state)["upload"]
    await s3_server.client.upload_part(
        Bucket=s3_server.access.bucket, Key=key.path, UploadId=upload, PartNumber=1, Body=b"1" * PART_BYTES
    )
    with pytest.raises(StorageUnavailable):
        async with store.resume(key, state):
            pass


async def test_a_process_that_lost_an_upload_does_not_disturb_who_goes_on(
    store: S3Store, s3_server: S3Server, key: BlobKey
) -> None:
    content = os.urandom(SIZE)
    state = await suspended(store, key, content[:100])
    async with store.resume(key, state) as blob:
        await blob.write(content[100:])
        newest = await blob.suspend()
    async with store.resume(key, state) as late:
        await late.write(content[100 : PART_BYTES + 9])
        await late.suspend()
    async with store.resume(key, newest) as blob:
        assert await blob.seal() == hashlib.sha256(content).hexdigest()
        await blob.keep()
    assert await read(store, key) == content
    assert await s3_server.names() == [key.path]


async def test_a_blob_that_is_sealed_while_the_cleaner_looks_is_left_alone(
    store: S3Store, s3_server: S3Server, key: BlobKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the cleaner's look at the marks and its look at the object the mark is renewed, and the object made."""
    await sealed(store, key)
    real = store._bucket.entries

    async def aged(*arguments: object, **more: object) -> object:
        found = await real(*arguments, **more)  # type: ignore[arg-type]
        return [type(entry)(entry.name, entry.modified - timedelta(hours=2)) for entry in found]

    monkeypatch.setattr(store._bucket, "entries", aged)
    assert await store.leftovers(timedelta(hours=1)) == []
    assert await read(store, key) == b"content"


async def test_a_mark_is_renewed_while_bytes_arrive(
    store: S3Store, s3_server: S3Server, key: BlobKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "_RENEW_SECONDS", -1.0)
    async with store.receive(key) as blob:
        await blob.write(bytes(PART_BYTES))
        for _ in range(3):
            before = len(s3_server.seen)
            await blob.write(b"x")
            assert [method for method, path in s3_server.seen[before:] if MARK in path] == ["PUT"]
        await blob.seal()


async def test_a_tenant_whose_requests_hang_leaves_half_of_the_connections_to_others(
    store: S3Store, s3_server: S3Server, key: BlobKey
) -> None:
    other = BlobKey(uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), 1)
    await kept(store, other)
    s3_server.seen.clear()
    s3_server.fail("HEAD", str(key.tenant_id), Fault.SILENT)
    flood = [asyncio.create_task(store.open(another(key))) for _ in range(8)]

    async def half() -> bool:
        return len(s3_server.seen) == 2

    try:
        await eventually(half)
        assert await asyncio.wait_for(read(store, other), 20) == b"content"
        await asyncio.wait_for(store.remove(other), 20)
        assert len([path for _, path in s3_server.seen if str(key.tenant_id) in path]) == 2
    finally:
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)


@pytest.mark.parametrize("ends", ["sealed", "refused", "suspended"])
async def test_a_tenant_whose_uploads_are_slow_leaves_half_of_the_buffers_to_others(
    store: S3Store, s3_server: S3Server, key: BlobKey, ends: str
) -> None:
    go_on, holding = asyncio.Event(), list[BlobKey]()

    async def upload(key: BlobKey) -> None:
        async with store.receive(key) as blob:
            await blob.write(bytes(PART_BYTES - 1))
            holding.append(key)
            await go_on.wait()
            if ends == "refused":
                raise NotFound
            await (blob.suspend() if ends == "suspended" else blob.seal())

    async def half() -> bool:
        return len(holding) == 2

    slow = [asyncio.create_task(upload(another(key))) for _ in range(8)]
    try:
        await eventually(half)
        # Small ones of the tenant need none, and others have theirs.
        await asyncio.wait_for(kept(store, another(key)), 20)
        other = BlobKey(uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), 1)
        await asyncio.wait_for(kept(store, other, bytes(SIZE)), 20)
        assert len(holding) == 2
    finally:
        go_on.set()
        done = await asyncio.gather(*slow, return_exceptions=True)
    assert len(holding) == 8
    assert [type(error) for error in done if error is not None] == ([NotFound] * 8 if ends == "refused" else [])


async def test_parts_are_as_large_as_servers_demand(
    store: S3Store, s3_server: S3Server, key: BlobKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    content = os.urandom(REAL_PART_BYTES + 17)
    await kept(store, key, content)
    assert len([path for _, path in s3_server.seen if "partNumber" in path]) == 2
    assert await read(store, key) == content


async def test_an_address_gives_the_bytes_under_their_name(s3_server: S3Server, key: BlobKey) -> None:
    async with open_store(s3_server.access, connections=4, buffers=4, public_url=s3_server.access.url) as store:
        await kept(store, key)
        blob = await store.open(key)
        address = await blob.address(disposition='attachment; filename="a.txt"', content_type="text/plain")
    assert address is not None
    async with httpx.AsyncClient() as client:
        answer = await client.get(address, headers={"Range": "bytes=0-2"})
    assert (answer.status_code, answer.content) == (206, b"con")
    assert answer.headers["content-disposition"] == 'attachment; filename="a.txt"'
    assert answer.headers["content-type"].startswith("text/plain")
    assert httpx.URL(address).params["X-Amz-Expires"] == "60"


async def test_readiness_tells_when_the_bucket_is_not_there(store: S3Store, s3_server: S3Server) -> None:
    await store.check()
    s3_server.fail("HEAD", "", Fault.DENIED)
    with pytest.raises(Exception, match="403"):
        await store.check()
