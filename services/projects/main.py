"""The projects service: projects, their members, and their documents."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI

from services.projects.blobs import open_store
from services.projects.documents import cleaning, handlers
from services.projects.documents import router as documents
from services.projects.projects import router as projects
from services.projects.settings import ProjectsSettings
from services.projects.tenants import erasure
from services.projects.tenants import handlers as tenants
from shared import service
from shared.background import run_in_background
from shared.handlers import Handler
from shared.settings import Role

ROUTERS = (projects.router, documents.router, projects.internal_router, documents.internal_router)


def create_app() -> FastAPI:
    settings = ProjectsSettings.load()
    return service.create_app(settings, routers=ROUTERS, resources=partial(_resources, settings))


@asynccontextmanager
async def _resources(
    settings: ProjectsSettings, app: FastAPI, runtime: service.Runtime
) -> AsyncIterator[Sequence[Handler[Any]]]:
    async with AsyncExitStack() as stack:
        blobs = await stack.enter_async_context(open_store(settings.blob_root, settings.blob_threads))
        app.state.blobs = blobs
        app.state.quotas = settings.quotas
        app.state.max_document_bytes = settings.max_document_bytes
        runtime.checks["blobs"] = blobs.check
        if Role.JOBS in settings.roles:
            for name, run in (("blob-cleaning", cleaning.run), ("erasure", erasure.run)):
                work = partial(run, runtime.database, blobs, every_seconds=settings.cleaning_seconds)
                await stack.enter_async_context(run_in_background(work, name=name))
        yield (*handlers.HANDLERS, *tenants.HANDLERS)
