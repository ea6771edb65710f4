"""The resources of the running projects service: the bytes of documents, and the tasks that erase what is gone."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from services.projects import erasure
from services.projects.blobs import open_store
from services.projects.dependencies import Resources
from services.projects.documents import cleaning, handlers
from services.projects.purges import handlers as purges
from services.projects.settings import ProjectsSettings
from services.projects.tenants import handlers as tenants
from shared.background import run_in_background
from shared.service import Runtime, Started
from shared.settings import Role


@asynccontextmanager
async def resources(settings: ProjectsSettings, runtime: Runtime) -> AsyncIterator[Started[Resources]]:
    async with AsyncExitStack() as stack:
        blobs = await stack.enter_async_context(open_store(settings.blob_root, settings.blob_threads))
        runtime.checks["blobs"] = blobs.check
        if Role.JOBS in settings.roles:
            for name, run in (("blob-cleaning", cleaning.run), ("erasure", erasure.run)):
                work = partial(run, runtime.database, blobs, every_seconds=settings.cleaning_seconds)
                await stack.enter_async_context(run_in_background(work, name=name))
        own = Resources(blobs, settings.quotas, settings.max_document_bytes, runtime.authority)
        yield own, (*handlers.HANDLERS, *purges.HANDLERS, *tenants.HANDLERS)
