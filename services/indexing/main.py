"""The indexing service: jobs, pipeline, vectors, search, agents."""

from fastapi import FastAPI

from services.indexing.agents.mcp.router import router as mcp
from services.indexing.agents.router import router as agents
from services.indexing.agents.runs.router import internal_router as internal_runs
from services.indexing.agents.runs.router import router as runs
from services.indexing.documents.router import router as documents
from services.indexing.generations.router import router as generations
from services.indexing.jobs.router import internal_router as internal_jobs
from services.indexing.jobs.router import router as jobs
from services.indexing.resources import resources
from services.indexing.search.router import router as search
from services.indexing.search.similar.router import router as similar
from services.indexing.settings import IndexingSettings
from shared import service

ROUTERS = (search, similar, documents, generations, agents, runs, jobs, mcp, internal_jobs, internal_runs)


def create_app() -> FastAPI:
    return service.create_app(IndexingSettings.load(), routers=ROUTERS, resources=resources)
