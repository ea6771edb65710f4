"""What operators reach on a service's own port: its dead letters and its metrics.

None of it is public. The gateway routes neither `/internal` nor `/metrics`, and neither is in an OpenAPI document.
Dead letters hold events of all tenants, so a client's token, whatever its role, is refused, and so is every service's:
only the holder of identity's `operator` secret (`POST /internal/operator-token`) gets in. Metrics name no tenant and
need no credential.

Dead letters here are *events*: failed indexing jobs, which clients see and retry, are something else.
"""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from shared import dead_letters, redrive
from shared.current_principal import operation
from shared.dead_letters import Detail, Summary, Wanted
from shared.errors import NotFound
from shared.lifespan_state import from_lifespan
from shared.metrics import CONTENT_TYPE, Metrics
from shared.pagination import Cursor, Limit, Page, cut_page, decode_cursor
from shared.request_bodies import Input
from shared.service_permissions import Operation
from shared.session_dependencies import SystemSession

Name = Annotated[str | None, Query(max_length=200)]


class RedriveAll(Input):
    """Which open dead letters to redrive; all of them without a filter."""

    handler: str | None = Field(default=None, max_length=200)
    event_type: str | None = Field(default=None, max_length=200)


class Requested(BaseModel):
    """How many redrives this request has requested."""

    requested: int


router = APIRouter(
    prefix="/internal/dead-letters",
    include_in_schema=False,
    dependencies=[operation(Operation.MANAGE_DEAD_LETTERS)],
)
metrics_router = APIRouter(include_in_schema=False)


@router.get("")
async def list_dead_letters(
    session: SystemSession,
    open_only: bool = True,
    handler: Name = None,
    event_type: Name = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Summary]:
    """Dead letters, newest first, without payloads."""
    return await _page(session, Wanted(open_only, event_type, handler), cursor=cursor, limit=limit)


@router.get("/{letter_id}")
async def read_dead_letter(letter_id: uuid.UUID, session: SystemSession) -> Detail:
    """One dead letter with its evidence."""
    return dead_letters.detail_of(await _existing(session, letter_id))


@router.post("/{letter_id}/redrive", status_code=202)
async def redrive_dead_letter(letter_id: uuid.UUID, session: SystemSession) -> Summary:
    """Request a redrive of one dead letter; one that was redriven already stays as it is."""
    await redrive.request(session, [letter_id])
    return dead_letters.summary_of(await _existing(session, letter_id))


@router.post("/redrive", status_code=202)
async def redrive_dead_letters(session: SystemSession, body: RedriveAll) -> Requested:
    """Request a redrive of many dead letters."""
    wanted = Wanted(open_only=True, event_type=body.event_type, handler=body.handler)
    return Requested(requested=len(await redrive.request_all(session, wanted)))


@metrics_router.get("/metrics")
async def scrape(request: Request) -> Response:
    metrics = from_lifespan(request, "metrics", Metrics)
    return Response(await metrics.exposition(), media_type=CONTENT_TYPE)


async def _page(session: SystemSession, wanted: Wanted, *, cursor: str | None, limit: int) -> Page[Summary]:
    rows = await dead_letters.page(session, wanted, limit=limit + 1, before=decode_cursor(cursor))
    letters, next_cursor = cut_page(rows, limit, lambda letter: (letter.created_at, letter.id))
    return Page(items=[dead_letters.summary_of(letter) for letter in letters], next_cursor=next_cursor)


async def _existing(session: SystemSession, letter_id: uuid.UUID) -> dead_letters.DeadLetter:
    letter = await dead_letters.by_id(session, letter_id)
    if letter is None:
        raise NotFound
    return letter
