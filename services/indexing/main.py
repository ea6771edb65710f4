"""The indexing service: jobs, pipeline, vectors, search."""

from fastapi import FastAPI

from services.indexing.generations.router import router as generations
from services.indexing.jobs.router import internal_router as internal_jobs
from services.indexing.jobs.router import router as jobs
from services.indexing.resources import resources
from services.indexing.search.router import router as search
from services.indexing.settings import IndexingSettings
from shared import service

ROUTERS = (search, generations, jobs, internal_jobs)


def create_app() -> FastAPI:
    return service.create_app(IndexingSettings.load(), routers=ROUTERS, resources=resources)
