"""The indexing service: jobs, pipeline, vectors, search."""

from fastapi import FastAPI

from services.indexing.jobs.router import router as jobs_router
from services.indexing.resources import resources
from services.indexing.search.router import router as search_router
from services.indexing.settings import IndexingSettings
from shared import service


def create_app() -> FastAPI:
    return service.create_app(IndexingSettings.load(), routers=[search_router, jobs_router], resources=resources)
