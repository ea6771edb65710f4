"""`/auth/logout` and `/v1/sessions`."""

import uuid

from fastapi import APIRouter, Response

from services.identity.dependencies import Settings, SignedInUser
from services.identity.sessions import service
from services.identity.sessions.cookies import CsrfHeader, SessionCookie, clear_session
from services.identity.sessions.schemas import SessionOut
from shared.pagination import Cursor, Limit, Page, cut_page, decode_cursor
from shared.session_dependencies import SystemSession

router = APIRouter(tags=["Sessions"])


@router.post("/auth/logout", status_code=204)
async def logout(
    response: Response,
    session: SystemSession,
    settings: Settings,
    secret: SessionCookie = None,
    csrf_token: CsrfHeader = "",
) -> None:
    """End the browser's session. Needs the session cookie and its CSRF token."""
    await service.sign_out(session, secret=secret, csrf_given=csrf_token, settings=settings)
    clear_session(response)


@router.get("/v1/sessions")
async def list_sessions(
    session: SystemSession, caller: SignedInUser, settings: Settings, limit: Limit = 50, cursor: Cursor = None
) -> Page[SessionOut]:
    """The caller's sessions, oldest first."""
    rows = await service.page(session, caller, limit=limit, after=decode_cursor(cursor), settings=settings)
    shown, following = cut_page(rows, limit, lambda row: (row.created_at, row.id))
    items = [
        SessionOut(
            id=row.id,
            user_agent=row.user_agent,
            created_at=row.created_at,
            last_seen_at=row.last_seen_at,
            expires_at=row.expires_at,
            current=row.id == caller.session_id,
        )
        for row in shown
    ]
    return Page(items=items, next_cursor=following)


@router.delete("/v1/sessions/{session_id}", status_code=204)
async def revoke_session(
    session: SystemSession, caller: SignedInUser, settings: Settings, session_id: uuid.UUID
) -> None:
    """End one of the caller's sessions."""
    await service.revoke(session, caller, session_id=session_id, settings=settings)
