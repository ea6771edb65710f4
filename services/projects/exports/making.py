"""Background work on exports: making their archives, and removing those that have expired or were deleted.

An attempt writes the archive into a blob of its own, and the manifest into another one, since it comes last: memory
does not grow with the documents' bytes. No transaction is open while bytes are copied. About once a second the attempt
renews its claim and records its progress, which is also how it learns that the export is gone.

Guarantees: an export that is ready has one whole archive, whatever died on the way; what an attempt leaves is removed
by the next one, with the export, or by the store's own clean-up (`documents.cleaning`). Each document is as it was at
one moment; one that is deleted before its turn is not in the archive. Bytes are read and written in the tenant's turns
at the store.
Fails by: trying again from the beginning, at most `MOST_ATTEMPTS` times; the export is `failed` then.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from services.projects.blobs.store import BlobKey, BlobStore, IncomingBlob, StorageUnavailable
from services.projects.documents.models import Document
from services.projects.exports import repository
from services.projects.exports.archive import MANIFEST, Archive, entry_path
from services.projects.exports.manifest import Manifest
from services.projects.exports.models import Export
from services.projects.exports.repository import ENDING, MAKING, Position
from services.projects.ids import uuid7
from services.projects.projects import repository as projects
from services.projects.projects.models import Project
from services.projects.versions.models import DocumentVersion
from shared.failpoints import failpoint
from shared.telemetry import bind, get_logger
from shared.tenancy import Database
from shared.work_queue import ClaimLost, keep_working

MOST_ATTEMPTS: Final = 10
PAGE: Final = 100
_BEAT_SECONDS: Final = 1.0

AFTER_BEGIN = failpoint("exports.after_begin", "export running, nothing written")
AFTER_DOCUMENT = failpoint("exports.after_document", "part of the archive written, not durable")
AFTER_SEAL = failpoint("exports.after_seal", "archive durable, export still running")
BEFORE_KEEP = failpoint("exports.before_keep", "export ready, archive not in its place")
AFTER_REMOVE = failpoint("exports.after_remove", "archive removed, export still there")

_log = get_logger(__name__)


async def run(database: Database, blobs: BlobStore, *, workers: int, lifetime: timedelta, every_seconds: float) -> None:
    """Work until cancelled, on so many exports at a time."""

    async def make_next() -> bool:
        return await MAKING.work_on_next(database, partial(make, database, blobs, lifetime))

    async def end_next() -> bool:
        return await ENDING.work_on_next(database, partial(end, database, blobs))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(workers):
            tasks.create_task(keep_working(make_next, name="exports", poll_seconds=every_seconds))
        tasks.create_task(keep_working(end_next, name="ended-exports", poll_seconds=every_seconds))


async def make(database: Database, blobs: BlobStore, lifetime: timedelta, export: Export) -> None:
    """One attempt."""
    with bind(tenant_id=export.tenant_id):
        await _remove(blobs, export, attempts=export.attempts - 1)
        if export.attempts > MOST_ATTEMPTS:
            await _settle(database, export, lifetime, status="failed", error_code="export_failed")
            return
        attempt = _Attempt(database, blobs, export)
        async with blobs.receive(export.blob_key(export.attempts)) as blob:
            await attempt.write(blob)
            sha256 = await blob.seal()
            await AFTER_SEAL.reach()
            try:
                ready = {"status": "ready", "size": blob.size, "sha256": sha256}
                await _settle(database, export, lifetime, **ready, **attempt.progress)
            except ClaimLost:
                await blob.discard()
                raise
            await BEFORE_KEEP.reach()
            await blob.keep()
        _log.info("export_ready", export_id=str(export.id), size=blob.size, **attempt.progress)


async def end(database: Database, blobs: BlobStore, export: Export) -> None:
    """Remove an archive that has expired or was deleted, and then its row."""
    with bind(tenant_id=export.tenant_id):
        await _remove(blobs, export, attempts=export.attempts)
        await AFTER_REMOVE.reach()
        async with database.tenant(export.tenant_id) as session:
            await ENDING.finish(session, export)


async def _remove(blobs: BlobStore, export: Export, *, attempts: int) -> None:
    for attempt in range(1, attempts + 1):
        await blobs.remove(export.blob_key(attempt))


async def _settle(database: Database, export: Export, lifetime: timedelta, **values: Any) -> None:
    """The export is `ready` or `failed`, and removed after its lifetime."""
    async with database.tenant(export.tenant_id) as session:
        row = await MAKING.held(session, export)
        row.finished_at = datetime.now(UTC)
        row.due_at = row.expires_at = row.finished_at + lifetime
        row.revision += 1
        for name, value in values.items():
            setattr(row, name, value)


class _Attempt:
    """An archive being written. `progress` are columns of the export."""

    def __init__(self, database: Database, blobs: BlobStore, export: Export) -> None:
        self._database = database
        self._blobs = blobs
        self._export = export
        self._beaten = time.monotonic()
        self.progress = dict.fromkeys(("documents_done", "documents_skipped", "bytes_done"), 0)

    async def write(self, blob: IncomingBlob) -> None:
        async with self._database.tenant(self._export.tenant_id) as session:
            row = await MAKING.held(session, self._export)
            row.status = "running"
            row.documents_total, row.bytes_total = await repository.totals(session, row)
            row.revision += 1
        await AFTER_BEGIN.reach()
        archive = Archive(blob)
        key = BlobKey.of_upload(self._export.tenant_id, self._export.project_id or self._export.tenant_id, uuid7())
        async with self._scratch(key) as scratch:
            manifest = Manifest(scratch)
            await manifest.begin(self._export)
            async for project in self._projects():
                await self._write_project(archive, manifest, project)
            await manifest.end({"documents": self.progress["documents_done"], "bytes": self.progress["bytes_done"]})
            await scratch.seal()
            await self._copy(archive, MANIFEST, key)
        await archive.finish()

    async def _write_project(self, archive: Archive, manifest: Manifest, project: Project) -> None:
        async with self._database.tenant(self._export.tenant_id) as session:
            members = await projects.members(session, project_id=project.id)
        await manifest.begin_project(project, members)
        skipped = []
        async for _, document_id in self._documents(project):
            async with self._database.tenant(self._export.tenant_id) as session:
                found = await repository.document(session, project_id=project.id, document_id=document_id)
            if found is not None and await self._write_document(archive, *found):
                await manifest.document(*found)
                self.progress["documents_done"] += 1
            else:
                skipped.append({"id": document_id, "reason": "deleted"})
                self.progress["documents_skipped"] += 1
            await AFTER_DOCUMENT.reach()
        await manifest.end_project(skipped)

    async def _write_document(self, archive: Archive, document: Document, versions: list[DocumentVersion]) -> bool:
        """Write all versions; False when the document was deleted before its bytes were read."""
        for version in versions:
            path = entry_path(document.project_id, document.id, version.number, document.name)
            try:
                await self._copy(archive, path, version.blob_key)
            except StorageUnavailable:
                async with self._database.tenant(self._export.tenant_id) as session:
                    gone = await repository.document(session, project_id=document.project_id, document_id=document.id)
                if gone is not None:
                    raise
                return False
        self.progress["bytes_done"] += sum(version.size for version in versions)
        return True

    async def _copy(self, archive: Archive, path: str, key: BlobKey) -> None:
        blob = await self._blobs.open(key)
        try:
            async with aclosing(self._alive(blob.chunks(0, blob.size))) as chunks:
                await archive.add(path, blob.size, chunks)
        finally:
            await blob.close()

    async def _alive(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """`chunks`, while the claim is held."""
        await self._beat()
        async for chunk in chunks:
            yield chunk
            await self._beat()

    async def _beat(self) -> None:
        now = time.monotonic()
        if now - self._beaten < _BEAT_SECONDS:
            return
        self._beaten = now
        async with self._database.tenant(self._export.tenant_id) as session:
            row = await MAKING.held(session, self._export)
            for name, value in self.progress.items():
                setattr(row, name, value)
            row.revision += 1
            await MAKING.renew(session, self._export)

    @asynccontextmanager
    async def _scratch(self, key: BlobKey) -> AsyncIterator[IncomingBlob]:
        """A blob that is needed only here."""
        async with self._blobs.receive(key) as blob:
            try:
                yield blob
            finally:
                await blob.discard()

    async def _projects(self) -> AsyncIterator[Project]:
        after = None
        while True:
            async with self._database.tenant(self._export.tenant_id) as session:
                project = await repository.next_project(session, self._export, after=after)
            if project is None:
                return
            yield project
            after = project.id

    async def _documents(self, project: Project) -> AsyncIterator[Position]:
        after: Position | None = None
        while True:
            async with self._database.tenant(self._export.tenant_id) as session:
                found = await repository.document_ids(
                    session, self._export, project_id=project.id, after=after, count=PAGE
                )
            for position in found:
                yield position
            if len(found) < PAGE:
                return
            after = found[-1]
