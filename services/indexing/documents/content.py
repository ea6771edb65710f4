"""The bytes of a document's version, fetched from the projects service into a file that is always removed.

A file is named after its job and the lease under which it was fetched. A worker that takes a job over removes the
previous worker's file, so the files of a killed process last only until its jobs are picked up.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import aiohttp

from services.indexing.documents.errors import ContentMissing, ContentRefused, ContentUnavailable
from services.indexing.jobs.leases import Lease
from shared.auth import ServiceTokens
from shared.telemetry import current_traceparent

_READ_BYTES = 1024 * 1024
# A vanished projects replica delays a job this much; a living one reads from its disk meanwhile.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=10)


@dataclass(frozen=True, slots=True)
class Content:
    """A file, and the encoding that was declared for it when it was uploaded."""

    path: Path
    charset: str | None


class ContentSource:
    """Fetches content over HTTP into `folder`, which is this service's own."""

    def __init__(self, projects_url: str, tokens: ServiceTokens, client: aiohttp.ClientSession, folder: Path) -> None:
        self._url = projects_url.rstrip("/")
        self._tokens = tokens
        self._client = client
        self._folder = folder

    @asynccontextmanager
    async def fetched(self, lease: Lease) -> AsyncIterator[Content]:
        """The content as a file, for the length of the block.

        Raises:
            ContentMissing: deleted.
            ContentRefused: an error response about this document.
            ContentUnavailable: no response, or one cut short.
        """
        path = self._folder / f"{lease.job_id}-{lease.token}"
        # Opened, closed and removed here, not in a thread: work is cancelled more than once, and a cancellation would
        # leak an open file, or withdraw what its thread has not begun.
        file = _open_alone(path, str(lease.job_id))
        try:
            with file:
                charset = await self._download(lease, file)
            yield Content(path, charset)
        finally:
            path.unlink(missing_ok=True)

    async def _download(self, lease: Lease, file: BinaryIO) -> str | None:
        url = (
            f"{self._url}/internal/projects/{lease.project_id}/documents/{lease.document_id}"
            f"/versions/{lease.version}/content"
        )
        headers = {"Authorization": f"Bearer {await self._tokens.token('projects', lease.tenant_id)}"}
        if traceparent := current_traceparent():
            headers["traceparent"] = traceparent
        try:
            async with self._client.get(url, headers=headers, timeout=_TIMEOUT) as answer:
                _refuse_error(answer.status)
                async for part in answer.content.iter_chunked(_READ_BYTES):
                    lease.check()
                    await asyncio.to_thread(file.write, part)
                return answer.charset
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ContentUnavailable(retry_after=1) from error


def _refuse_error(status: int) -> None:
    if status == 404:
        raise ContentMissing
    if status in (429, 502, 503, 504):
        raise ContentUnavailable(retry_after=1)
    if status != 200:
        raise ContentRefused(status)


def _open_alone(path: Path, job_id: str) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left_over in path.parent.glob(f"{job_id}-*"):
        left_over.unlink(missing_ok=True)
    return path.open("wb")
