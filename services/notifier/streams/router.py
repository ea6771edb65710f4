"""Server-Sent Events of a project, of a tenant, of a run."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from services.notifier.streams import service
from services.notifier.streams.response import EventStream
from services.notifier.streams.service import Streaming
from shared.current_principal import CurrentPrincipal
from shared.errors import Forbidden
from shared.lifespan_state import resources_of

router = APIRouter(tags=["Events"])


async def _streaming(request: Request) -> Streaming:
    return resources_of(request, Streaming)


async def _last_event_id(
    header: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
    query: Annotated[
        str | None, Query(alias="last_event_id", description="For clients that cannot set the Last-Event-ID header.")
    ] = None,
) -> int | None:
    """Where to resume. The header is newer than the address, which a browser repeats when it reconnects."""
    return service.parse_event_id(header or query)


async def _tenant_of(principal: CurrentPrincipal) -> uuid.UUID:
    if principal.tenant_id is None:
        raise Forbidden("Choose an active tenant first.")
    return principal.tenant_id


StreamingDependency = Annotated[Streaming, Depends(_streaming)]
LastEventId = Annotated[int | None, Depends(_last_event_id)]
ActiveTenant = Annotated[uuid.UUID, Depends(_tenant_of)]
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A stream of events that ends after some minutes; resume with the id of the last event.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.get("/v1/projects/{project_id}/events", status_code=200, response_class=EventStream, responses=_STREAM)
async def project_events(
    project_id: uuid.UUID,
    streaming: StreamingDependency,
    principal: CurrentPrincipal,
    tenant_id: ActiveTenant,
    last_event_id: LastEventId,
) -> EventStream:
    """Stream the events of one project."""
    return await service.open_project(
        streaming, principal, tenant_id=tenant_id, project_id=project_id, last_event_id=last_event_id
    )


@router.get(
    "/v1/projects/{project_id}/runs/{run_id}/events",
    status_code=200,
    response_class=EventStream,
    responses={**_STREAM, 204: {"description": "There is nothing after that event: the run has ended."}},
    tags=["Agents"],
)
async def run_events(
    project_id: uuid.UUID,
    run_id: uuid.UUID,
    streaming: StreamingDependency,
    principal: CurrentPrincipal,
    tenant_id: ActiveTenant,
    last_event_id: LastEventId,
) -> Response:
    """Stream the events of a run from its beginning, to its end."""
    stream = await service.open_run(
        streaming,
        principal,
        tenant_id=tenant_id,
        project_id=project_id,
        run_id=run_id,
        last_event_id=last_event_id,
    )
    return stream or Response(status_code=204)


@router.get("/v1/events", status_code=200, response_class=EventStream, responses=_STREAM)
async def tenant_events(
    streaming: StreamingDependency, principal: CurrentPrincipal, tenant_id: ActiveTenant, last_event_id: LastEventId
) -> EventStream:
    """Stream the events of all projects in the active tenant that the caller may see.

    Ids increase; they are gapless only for callers who may see every project.
    """
    return await service.open_tenant(streaming, principal, tenant_id=tenant_id, last_event_id=last_event_id)
