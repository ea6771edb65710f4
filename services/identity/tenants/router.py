"""`/v1/tenants`."""

import uuid

from fastapi import APIRouter, Response

from services.identity.dependencies import Settings, SignedInUser
from services.identity.tenants import service
from services.identity.tenants.repository import TenantOfUser
from services.identity.tenants.schemas import TenantInput, TenantOut
from shared.auth import Principal
from shared.current_principal import CurrentPrincipal
from shared.etags import IfMatch, etag
from shared.pagination import Cursor, Limit, Page, cut_page, decode_cursor
from shared.session_dependencies import AnyTransactions, SystemSession, TenantSession

router = APIRouter(prefix="/v1/tenants", tags=["Tenants"])


@router.post("", status_code=201)
async def create_tenant(
    response: Response,
    transactions: AnyTransactions,
    principal: CurrentPrincipal,
    caller: SignedInUser,
    settings: Settings,
    body: TenantInput,
) -> TenantOut:
    """Create a tenant; the caller becomes its owner. Activate it to work in it."""
    tenant = await service.create(transactions, owner_id=caller.user_id, name=body.name, settings=settings)
    return _shown(response, principal, tenant)


@router.get("")
async def list_tenants(
    session: SystemSession, principal: CurrentPrincipal, limit: Limit = 50, cursor: Cursor = None
) -> Page[TenantOut]:
    """Tenants the caller may use, oldest first."""
    rows = await service.all_of(session, principal, after=decode_cursor(cursor), limit=limit + 1)
    shown, following = cut_page(rows, limit, lambda row: (row.created_at, row.id))
    return Page(items=[_out(principal, row) for row in shown], next_cursor=following)


@router.get("/{tenant_id}")
async def get_tenant(
    response: Response, session: SystemSession, principal: CurrentPrincipal, tenant_id: uuid.UUID
) -> TenantOut:
    """One of the caller's tenants, with its `ETag`."""
    return _shown(response, principal, await service.get(session, principal, tenant_id=tenant_id))


@router.patch("/{tenant_id}")
async def rename_tenant(
    response: Response,
    session: TenantSession,
    principal: CurrentPrincipal,
    tenant_id: uuid.UUID,
    body: TenantInput,
    if_match: IfMatch = None,
) -> TenantOut:
    """Rename the active tenant."""
    tenant = await service.rename(session, principal, tenant_id=tenant_id, name=body.name, if_match=if_match)
    return _shown(response, principal, tenant)


@router.delete("/{tenant_id}", status_code=204)
async def delete_tenant(
    session: TenantSession, principal: CurrentPrincipal, tenant_id: uuid.UUID, if_match: IfMatch = None
) -> None:
    """Delete the active tenant; owners only. All members lose access at once."""
    await service.delete(session, principal, tenant_id=tenant_id, if_match=if_match)


@router.post("/{tenant_id}/activate")
async def activate_tenant(
    session: SystemSession,
    principal: CurrentPrincipal,
    caller: SignedInUser,
    settings: Settings,
    tenant_id: uuid.UUID,
) -> TenantOut:
    """Make this the active tenant of the browser session."""
    tenant = await service.activate(session, principal, caller, tenant_id=tenant_id, settings=settings)
    return _out(principal, tenant, active_id=tenant_id)


def _shown(response: Response, principal: Principal, tenant: TenantOfUser) -> TenantOut:
    response.headers["ETag"] = etag(tenant.revision)
    return _out(principal, tenant)


def _out(principal: Principal, tenant: TenantOfUser, *, active_id: uuid.UUID | None = None) -> TenantOut:
    return TenantOut.model_validate(
        {
            "id": tenant.id,
            "name": tenant.name,
            "role": tenant.role,
            "active": tenant.id == (active_id or principal.tenant_id),
            "created_at": tenant.created_at,
            "updated_at": tenant.updated_at,
        }
    )
