"""A running notifier as its clients see it, and what its neighbours answer."""

import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

import aiohttp
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from services.notifier.streams.service import Streaming
from shared.auth import Scope
from shared.events.envelope import Envelope
from shared.events.identity import TenantRole
from tests.services.notifier.sse import Sse
from tests.support.identity import IdentityDouble
from tests.support.leases import LeasesDouble


@dataclass
class Neighbours:
    """What projects and indexing answer: projects by id, and running jobs by project."""

    url: str = ""
    projects: dict[uuid.UUID, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[uuid.UUID, list[dict[str, Any]]] = field(default_factory=dict)
    runs: dict[uuid.UUID, dict[str, Any]] = field(default_factory=dict)
    left: list[tuple[uuid.UUID, str | None]] = field(default_factory=list)
    asked_for_jobs: list[uuid.UUID] = field(default_factory=list)
    indexing_status: int = 200
    leases: LeasesDouble = field(default_factory=LeasesDouble)

    def add_project(self, *, members: Mapping[uuid.UUID, str] | None = None) -> uuid.UUID:
        project_id = uuid.uuid4()
        self.projects[project_id] = {
            "project_id": str(project_id),
            "status": "active",
            "revision": 1,
            "members": [{"user_id": str(user), "role": role} for user, role in (members or {}).items()],
        }
        return project_id

    def app(self) -> FastAPI:
        app = FastAPI()
        self.leases.install(app)

        @app.get("/internal/projects/{project_id}/access")
        async def access(project_id: uuid.UUID) -> JSONResponse:
            found = self.projects.get(project_id)
            return JSONResponse(found or {}, 200 if found else 404)

        @app.get("/internal/projects/{project_id}/progress")
        async def progress(project_id: uuid.UUID) -> JSONResponse:
            self.asked_for_jobs.append(project_id)
            return JSONResponse({"jobs": self.jobs.get(project_id, [])}, self.indexing_status)

        @app.get("/internal/projects/{project_id}/runs/{run_id}")
        async def run(run_id: uuid.UUID) -> JSONResponse:
            found = self.runs.get(run_id)
            return JSONResponse(found or {}, 200 if found else 404)

        @app.post("/internal/projects/{project_id}/runs/{run_id}/left", status_code=204)
        async def leave(run_id: uuid.UUID, request: Request) -> None:
            self.left.append((run_id, (await request.json())["user_id"]))

        return app


class Who(TypedDict, total=False):
    """Who asks; an owner of the tenant with all scopes unless told otherwise. `tied_to`: the credential's project."""

    user_id: uuid.UUID
    tenant_role: TenantRole
    scopes: Iterable[Scope]
    credential_id: uuid.UUID
    tied_to: uuid.UUID


@dataclass(frozen=True)
class Replica:
    """One running notifier."""

    url: str
    streaming: Streaming
    client: aiohttp.ClientSession
    tokens: IdentityDouble

    def headers(
        self, tenant_id: uuid.UUID | None, last_event_id: str | int | None = None, **who: Unpack[Who]
    ) -> dict[str, str]:
        options: dict[str, Any] = {**who}
        options["project_id"] = options.pop("tied_to", None)
        headers = self.tokens.headers("notifier", tenant_id=tenant_id, **options)
        return headers if last_event_id is None else {**headers, "Last-Event-ID": str(last_event_id)}

    def listen(
        self,
        tenant_id: uuid.UUID,
        project_id: uuid.UUID | None = None,
        *,
        last_event_id: str | int | None = None,
        query: str = "",
        **who: Unpack[Who],
    ) -> AbstractAsyncContextManager[Sse]:
        """An open stream of a project, or of the tenant when none is named."""
        path = "/v1/events" if project_id is None else f"/v1/projects/{project_id}/events"
        return Sse.open(self.client, f"{self.url}{path}{query}", self.headers(tenant_id, last_event_id, **who))

    async def refusal(self, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        """Status and code with which the notifier refuses a request."""
        async with self.client.get(f"{self.url}{path}", headers=headers) as answer:
            # A stream that was opened after all would be read for ever.
            return answer.status, "" if answer.status == 200 else (await answer.json(content_type=None))["code"]


Replicas = Callable[..., AbstractAsyncContextManager[Replica]]
Publish = Callable[..., Awaitable[Envelope]]
