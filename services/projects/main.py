"""The projects service: projects, their members, and their documents."""

from fastapi import FastAPI

from services.projects.batches import router as batches
from services.projects.documents import router as documents
from services.projects.exports import router as exports
from services.projects.projects import router as projects
from services.projects.resources import resources
from services.projects.settings import ProjectsSettings
from services.projects.uploads import router as uploads
from services.projects.uploads.headers import TusHeaders
from services.projects.versions import router as versions
from shared import service

ROUTERS = (
    projects.router,
    documents.router,
    versions.router,
    uploads.router,
    batches.router,
    exports.router,
    projects.internal_router,
    documents.internal_router,
)


def create_app() -> FastAPI:
    settings = ProjectsSettings.load()
    app = service.create_app(settings, routers=ROUTERS, resources=resources)
    app.add_middleware(TusHeaders, most_bytes=settings.max_document_bytes)
    return app
