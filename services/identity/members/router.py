"""`/v1/members`: members of the active tenant."""

import uuid

from fastapi import APIRouter

from services.identity.members import service
from services.identity.members.schemas import MemberOut, RoleChange
from shared.http import CurrentPrincipal
from shared.pagination import Cursor, Limit, Page, cut_page, decode_cursor
from shared.sessions import TenantSession

router = APIRouter(prefix="/v1/members", tags=["Members"])


@router.get("")
async def list_members(
    session: TenantSession, principal: CurrentPrincipal, limit: Limit = 50, cursor: Cursor = None
) -> Page[MemberOut]:
    """Members in the order they joined."""
    rows = await service.listed(session, principal, limit=limit, after=decode_cursor(cursor))
    shown, following = cut_page(rows, limit, lambda row: (row.joined_at, row.user_id))
    return Page(items=[MemberOut.model_validate(row, from_attributes=True) for row in shown], next_cursor=following)


@router.patch("/{user_id}")
async def change_role(
    session: TenantSession, principal: CurrentPrincipal, user_id: uuid.UUID, body: RoleChange
) -> MemberOut:
    """Give a member another role."""
    member = await service.change_role(session, principal, user_id=user_id, role=body.role)
    return MemberOut.model_validate(member, from_attributes=True)


@router.delete("/{user_id}", status_code=204)
async def remove_member(session: TenantSession, principal: CurrentPrincipal, user_id: uuid.UUID) -> None:
    """Remove a member, or leave the tenant oneself. The member's API keys of this tenant end too."""
    await service.remove(session, principal, user_id=user_id)
