"""The resources of the running projects service: the bytes of documents, and the tasks that erase what is gone."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial

from services.projects import erasure
from services.projects.blobs import filesystem
from services.projects.dependencies import Resources
from services.projects.documents import cleaning, handlers
from services.projects.settings import ProjectsSettings
from services.projects.tenants import handlers as tenants
from services.projects.uploads import expiry
from shared.background import run_in_background
from shared.service import Runtime, Started
from shared.settings import Role


@asynccontextmanager
async def resources(settings: ProjectsSettings, runtime: Runtime) -> AsyncIterator[Started[Resources]]:
    async with AsyncExitStack() as stack:
        blobs = await stack.enter_async_context(filesystem.open_store(settings.blob_root, settings.blob_threads))
        runtime.checks["blobs"] = blobs.check
        if Role.JOBS in settings.roles:
            every = settings.cleaning_seconds
            for name, work in (
                ("blob-cleaning", partial(cleaning.run, runtime.database, blobs, every_seconds=every)),
                ("erasure", partial(erasure.run, runtime.database, blobs, every_seconds=every)),
                ("upload-expiry", partial(expiry.run, runtime.database, every_seconds=every)),
            ):
                await stack.enter_async_context(run_in_background(work, name=name))
        own = Resources(
            blobs,
            settings.quotas,
            settings.max_document_bytes,
            runtime.authority,
            upload_expiry=timedelta(seconds=settings.upload_expiry_seconds),
        )
        yield own, (*handlers.HANDLERS, *tenants.HANDLERS)
