"""The resources of the running projects service: the bytes of documents, and the tasks that erase what is gone."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial

from services.projects import erasure
from services.projects.blobs import filesystem
from services.projects.blobs.store import BlobStore
from services.projects.dependencies import Resources
from services.projects.documents import cleaning, handlers
from services.projects.exports import making
from services.projects.purges import handlers as purges
from services.projects.settings import ProjectsSettings
from services.projects.tenants import handlers as tenants
from services.projects.uploads import expiry
from shared.background import run_in_background
from shared.service import Runtime, Started
from shared.settings import Role


@asynccontextmanager
async def resources(settings: ProjectsSettings, runtime: Runtime) -> AsyncIterator[Started[Resources]]:
    async with AsyncExitStack() as stack:
        blobs = await stack.enter_async_context(_open_store(settings))
        runtime.checks["blobs"] = blobs.check
        if Role.JOBS in settings.roles:
            every = settings.cleaning_seconds
            lifetime = timedelta(hours=settings.export_hours)
            make_exports = partial(making.run, workers=settings.export_workers, lifetime=lifetime)
            for name, work in (
                ("blob-cleaning", partial(cleaning.run, runtime.database, blobs, every_seconds=every)),
                ("erasure", partial(erasure.run, runtime.database, blobs, every_seconds=every)),
                ("upload-expiry", partial(expiry.run, runtime.database, every_seconds=every)),
                ("exports", partial(make_exports, runtime.database, blobs, every_seconds=every)),
            ):
                await stack.enter_async_context(run_in_background(work, name=name))
        own = Resources(
            blobs,
            settings.quotas,
            settings.max_document_bytes,
            runtime.authority,
            upload_expiry=timedelta(seconds=settings.upload_expiry_seconds),
        )
        yield own, (*handlers.HANDLERS, *purges.HANDLERS, *tenants.HANDLERS)


def _open_store(settings: ProjectsSettings) -> AbstractAsyncContextManager[BlobStore]:
    if settings.blob_root is not None:
        return filesystem.open_store(settings.blob_root, settings.blob_threads)
    # Its client takes a third of a second to import: only when it is used.
    from services.projects.blobs.s3 import client, store  # noqa: PLC0415

    # The settings see to it.
    assert settings.s3_url and settings.s3_bucket  # noqa: S101
    assert settings.s3_access_key_id and settings.s3_secret_access_key  # noqa: S101
    access = client.Access(
        settings.s3_url,
        settings.s3_bucket,
        settings.s3_region,
        settings.s3_access_key_id.get_secret_value(),
        settings.s3_secret_access_key.get_secret_value(),
    )
    return store.open_store(
        access,
        connections=settings.s3_connections,
        buffers=settings.s3_buffers,
        public_url=settings.s3_public_url,
    )
