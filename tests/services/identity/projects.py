"""The projects service as identity asks it: every project is there but the ones a test takes away."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from tests.support.serving import serve


class ProjectsDouble:
    """`missing` and `deleted` hold ids; while `away`, it answers nobody. `credentials` are what it was asked with."""

    url: str

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.deleted: set[str] = set()
        self.away = False
        self.credentials: list[str] = []

    @classmethod
    @asynccontextmanager
    async def serving(cls) -> AsyncIterator["ProjectsDouble"]:
        double = cls()
        async with serve(double._app()) as url:
            double.url = url
            yield double

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/internal/projects/{project_id}/access")
        async def access(request: Request, project_id: uuid.UUID) -> JSONResponse:
            self.credentials.append(request.headers["authorization"].removeprefix("Bearer "))
            if self.away:
                return JSONResponse({}, 503)
            if str(project_id) in self.missing:
                return JSONResponse({}, 404)
            status = "deleted" if str(project_id) in self.deleted else "active"
            return JSONResponse({"project_id": str(project_id), "status": status, "revision": 1, "members": []})

        return app
