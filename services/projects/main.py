"""The projects service: projects, their members, and their documents."""

from fastapi import FastAPI

from services.projects.batches import router as batches
from services.projects.documents import router as documents
from services.projects.exports import router as exports
from services.projects.projects import router as projects
from services.projects.resources import resources
from services.projects.settings import ProjectsSettings
from services.projects.versions import router as versions
from shared import service

ROUTERS = (
    projects.router,
    documents.router,
    versions.router,
    batches.router,
    exports.router,
    projects.internal_router,
    documents.internal_router,
)


def create_app() -> FastAPI:
    return service.create_app(ProjectsSettings.load(), routers=ROUTERS, resources=resources)
