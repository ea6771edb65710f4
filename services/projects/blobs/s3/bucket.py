"""One bucket of an S3-compatible server, and all that is asked of it.

Each request waits for its holder's turn, has a limited time, and is repeated a few times when it got no response or
one that tells of a passing trouble. Bytes are sent with their MD5, which the server compares: what was changed on its
way is refused and sent again. Requests may be repeated: a part or an object is replaced by the same bytes.

Fails by: `StorageFull`; `ObjectMissing` where the object or upload may be missing; `StorageUnavailable` otherwise.
After the last one it is unknown whether the request had its effect, and it may still have it.
"""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

import aiohttp
import tenacity
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from services.projects.blobs.store import StorageFull, StorageUnavailable
from shared.fair_semaphore import FairSemaphore
from shared.resilience import retried

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

ATTEMPTS: Final = 4
FIRST_PAUSE: Final = 0.1
_PAGE: Final = 1000
_MISSING: Final = frozenset({"404", "NoSuchKey", "NoSuchUpload"})
_FULL: Final = frozenset({"507", "InsufficientStorage", "QuotaExceeded", "StorageFull", "XMinioStorageFull"})
_PASSING: Final = frozenset(
    {"BadDigest", "OperationAborted", "RequestTimeout", "SlowDown", "XAmzContentSHA256Mismatch"}
)

T = TypeVar("T")


class ObjectMissing(Exception):
    """There is no such object or upload."""


class _Passing(Exception):
    """A failure that may be over when the request is repeated."""


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    modified: datetime


class Bucket:
    """Args:
    turns: one place for each connection.
    seconds: for one attempt at one request.
    """

    def __init__(self, client: "S3Client", name: str, turns: FairSemaphore, *, seconds: float) -> None:
        self._client = client
        self._name = name
        self._turns = turns
        self._seconds = seconds

    async def check(self) -> None:
        """Raises when the bucket cannot be reached with these credentials."""
        async with asyncio.timeout(self._seconds):
            await self._client.head_bucket(Bucket=self._name)

    async def put(self, holder: Hashable, name: str, content: bytes, *, lost: Callable[[], None] | None = None) -> None:
        """Args:
        lost: called when an attempt got no response, so that it may have its effect later.
        """
        md5 = await md5_of(content)
        await self._request(
            holder,
            lambda: self._client.put_object(Bucket=self._name, Key=name, Body=content, ContentMD5=md5),
            lost=lost,
        )

    async def delete(self, holder: Hashable, name: str) -> None:
        """Deleting what is not there is no error."""
        await self._request(holder, lambda: self._client.delete_object(Bucket=self._name, Key=name))

    async def size_of(self, holder: Hashable, name: str) -> int:
        """Raises ObjectMissing."""
        found = await self._request(holder, lambda: self._client.head_object(Bucket=self._name, Key=name))
        return found["ContentLength"]

    async def modified(self, holder: Hashable, name: str) -> datetime:
        """Raises ObjectMissing."""
        found = await self._request(holder, lambda: self._client.head_object(Bucket=self._name, Key=name))
        return found["LastModified"]

    async def read(self, holder: Hashable, name: str, start: int, end: int) -> bytes:
        """The bytes from `start` up to, not including, `end`. Raises ObjectMissing."""

        async def get() -> bytes:
            wanted = f"bytes={start}-{end - 1}"
            found = await self._client.get_object(Bucket=self._name, Key=name, Range=wanted)
            async with found["Body"] as body:
                content: bytes = await body.read()
            if len(content) != end - start:
                raise _Passing
            return content

        return await self._request(holder, get)

    async def entries(self, holder: Hashable, prefix: str, *, most: int | None = None) -> list[Entry]:
        """The objects whose names begin with `prefix`, in order of their names; all of them, or the first `most`."""
        found: list[Entry] = []
        more = True
        while more and (most is None or len(found) < most):
            after = found[-1].name if found else ""
            page, more = await self._page(holder, prefix, after, min(_PAGE, _PAGE if most is None else most))
            found += page
        return found[:most]

    async def _page(self, holder: Hashable, prefix: str, after: str, count: int) -> tuple[list[Entry], bool]:
        page = await self._request(
            holder,
            lambda: self._client.list_objects_v2(Bucket=self._name, Prefix=prefix, StartAfter=after, MaxKeys=count),
        )
        return [Entry(item["Key"], item["LastModified"]) for item in page.get("Contents", ())], page["IsTruncated"]

    # --- an object sent in parts -------------------------------------------------------------------------------------

    async def begin(self, holder: Hashable, name: str, *, lost: Callable[[], None] | None = None) -> str:
        """Returns the id of the upload."""
        made = await self._request(
            holder, lambda: self._client.create_multipart_upload(Bucket=self._name, Key=name), lost=lost
        )
        return made["UploadId"]

    async def put_part(
        self,
        holder: Hashable,
        name: str,
        upload: str,
        number: int,
        content: bytes,
        *,
        lost: Callable[[], None] | None = None,
    ) -> str:
        """Returns the entity tag. Raises ObjectMissing."""
        md5 = await md5_of(content)
        made = await self._request(
            holder,
            lambda: self._client.upload_part(
                Bucket=self._name, Key=name, UploadId=upload, PartNumber=number, Body=content, ContentMD5=md5
            ),
            lost=lost,
        )
        return made["ETag"]

    async def tags(self, holder: Hashable, name: str, upload: str, count: int) -> list[str]:
        """Entity tags of the first `count` parts. Raises ObjectMissing, also when one of them is."""
        found: list[str] = []
        while len(found) < count:
            page = await self._parts(holder, name, upload, len(found))
            found += page
            if not page:
                raise ObjectMissing
        return found[:count]

    async def _parts(self, holder: Hashable, name: str, upload: str, after: int) -> list[str]:
        page = await self._request(
            holder,
            lambda: self._client.list_parts(Bucket=self._name, Key=name, UploadId=upload, PartNumberMarker=after),
        )
        parts = page.get("Parts", ())
        if [part["PartNumber"] for part in parts] != list(range(after + 1, after + 1 + len(parts))):
            raise ObjectMissing
        return [part["ETag"] for part in parts]

    async def complete(
        self, holder: Hashable, name: str, upload: str, tags: list[str], *, lost: Callable[[], None] | None = None
    ) -> None:
        """Make the parts an object. Raises ObjectMissing."""
        try:
            await self._request(
                holder,
                lambda: self._client.complete_multipart_upload(
                    Bucket=self._name,
                    Key=name,
                    UploadId=upload,
                    MultipartUpload={
                        "Parts": [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, start=1)]
                    },
                ),
                lost=lost,
            )
        except ObjectMissing:
            # So it is when an attempt without a response had its effect.
            await self.size_of(holder, name)

    async def abort(self, holder: Hashable, name: str) -> None:
        """Remove the parts of every unfinished upload of this object."""
        page = await self._request(
            holder, lambda: self._client.list_multipart_uploads(Bucket=self._name, Prefix=name, MaxUploads=_PAGE)
        )
        for upload in page.get("Uploads", ()):
            if upload["Key"] == name:
                await self._abort(holder, name, upload["UploadId"])

    async def _abort(self, holder: Hashable, name: str, upload: str) -> None:
        try:
            await self._request(
                holder, lambda: self._client.abort_multipart_upload(Bucket=self._name, Key=name, UploadId=upload)
            )
        except ObjectMissing:
            return

    # --- requests ----------------------------------------------------------------------------------------------------

    async def _request(
        self, holder: Hashable, send: Callable[[], Awaitable[T]], *, lost: Callable[[], None] | None = None
    ) -> T:
        async def attempt() -> T:
            async with self._turns.turn(holder):
                try:
                    async with asyncio.timeout(self._seconds):
                        return await send()
                except ClientError as error:
                    raise _meaning(error) from error
                except (BotoCoreError, ResponseParserError, aiohttp.ClientError, OSError) as error:
                    # Time-outs are errors of the operating system.
                    if lost is not None:
                        lost()
                    raise _Passing from error

        try:
            again = tenacity.retry_if_exception_type(_Passing)
            return await retried(attempt, ATTEMPTS, again=again, first=FIRST_PAUSE, most=2.0)
        except _Passing as error:
            raise StorageUnavailable(retry_after=2) from error


def _meaning(error: ClientError) -> Exception:
    code = error.response["Error"].get("Code", "")
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    if code in _FULL or status == 507:
        return StorageFull()
    if code in _MISSING:
        return ObjectMissing()
    if code in _PASSING or (status >= 500 and status != 501) or status in (408, 429):
        return _Passing()
    return StorageUnavailable(retry_after=2)


async def md5_of(content: bytes) -> str:
    """As the header Content-MD5 has it (RFC 1864)."""
    digest = await asyncio.to_thread(hashlib.md5, content, usedforsecurity=False)
    return base64.b64encode(digest.digest()).decode()
