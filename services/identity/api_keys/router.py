"""`/v1/api-keys`: keys of the active tenant."""

import uuid

from fastapi import APIRouter

from services.identity.api_keys import service
from services.identity.api_keys.schemas import ApiKeyCreate, ApiKeyCreated, ApiKeyOut
from services.identity.dependencies import KnownProjects, Settings
from shared.current_principal import CurrentPrincipal
from shared.pagination import Cursor, Limit, Page, cut_page, decode_cursor
from shared.session_dependencies import TenantSession

router = APIRouter(prefix="/v1/api-keys", tags=["API keys"])


@router.get("")
async def list_api_keys(
    session: TenantSession, principal: CurrentPrincipal, limit: Limit = 50, cursor: Cursor = None
) -> Page[ApiKeyOut]:
    """Keys that are not revoked, oldest first."""
    rows = await service.page(session, principal, limit=limit, after=decode_cursor(cursor))
    items, following = cut_page(rows, limit, lambda row: (row.created_at, row.id))
    return Page(items=[ApiKeyOut.model_validate(row, from_attributes=True) for row in items], next_cursor=following)


@router.post("", status_code=201)
async def create_api_key(
    session: TenantSession,
    principal: CurrentPrincipal,
    projects: KnownProjects,
    settings: Settings,
    body: ApiKeyCreate,
) -> ApiKeyCreated:
    """Create an API key. Only this response contains the key itself. A key created with another key stops working when
    that one does."""
    row, key = await service.create(session, principal, projects, **dict(body), settings=settings)
    shown = ApiKeyOut.model_validate(row, from_attributes=True)
    return ApiKeyCreated(**shown.model_dump(), key=key)


@router.delete("/{key_id}", status_code=204)
async def revoke_api_key(session: TenantSession, principal: CurrentPrincipal, key_id: uuid.UUID) -> None:
    """Revoke a key, and with it the keys that were created and the invitations that were sent with it."""
    await service.revoke(session, principal, key_id=key_id)
