"""What indexing asks the projects service for, answered over HTTP: access to projects, and content."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fastapi import FastAPI, Request, Response

from tests.support.leases import LeasesDouble
from tests.support.serving import serve


@dataclass
class ProjectsDouble:
    """`content` by document and version; `types` of some, as declared. `lists`: status and body by path.

    `broken` documents answer with a status instead; `held` ones when let go.
    """

    url: str = ""
    access: dict[uuid.UUID, dict[uuid.UUID, str]] = field(default_factory=dict)
    content: dict[tuple[uuid.UUID, int], bytes] = field(default_factory=dict)
    types: dict[uuid.UUID, str] = field(default_factory=dict)
    broken: dict[uuid.UUID, int] = field(default_factory=dict)
    held: dict[uuid.UUID, asyncio.Event] = field(default_factory=dict)
    asked: Counter[uuid.UUID] = field(default_factory=Counter)
    credentials: list[str] = field(default_factory=list)
    lists: dict[str, tuple[int, str]] = field(default_factory=dict)
    down: bool = False
    leases: LeasesDouble = field(default_factory=LeasesDouble)

    @classmethod
    @asynccontextmanager
    async def serving(cls) -> AsyncIterator["ProjectsDouble"]:
        double = cls()
        async with serve(double._app()) as url:
            double.url = url
            yield double

    def _app(self) -> FastAPI:
        app = FastAPI()
        self.leases.install(app)

        @app.get("/internal/projects/{project_id}/access")
        async def access(project_id: uuid.UUID) -> Response:
            if self.down:
                return Response(status_code=503)
            if project_id not in self.access:
                return Response(status_code=404)
            members = [
                f'{{"user_id": "{user_id}", "role": "{role}"}}' for user_id, role in self.access[project_id].items()
            ]
            body = (
                f'{{"project_id": "{project_id}", "status": "active", "revision": 1, "members": [{",".join(members)}]}}'
            )
            return Response(body, media_type="application/json")

        @app.get("/v1/{path:path}")
        async def listed(path: str, request: Request) -> Response:
            self.credentials.append(request.headers["authorization"])
            status, body = (503, "") if self.down else self.lists.get(f"/v1/{path}", (404, ""))
            return Response(body, status, media_type="application/json")

        @app.api_route(
            "/internal/projects/{project_id}/documents/{document_id}/versions/{version}/content",
            methods=["GET", "HEAD"],
        )
        async def content(project_id: uuid.UUID, document_id: uuid.UUID, version: int, request: Request) -> Response:
            self.asked[document_id] += 1
            self.credentials.append(request.headers["authorization"])
            if document_id in self.held:
                await self.held[document_id].wait()
            if self.down or document_id in self.broken:
                return Response(status_code=self.broken.get(document_id, 503))
            found = self.content.get((document_id, version))
            if found is None:
                return Response(status_code=404)
            return Response(found, headers={"Content-Type": self.types.get(document_id, "application/octet-stream")})

        return app
