"""`/v1/members`: members of the active tenant."""

import uuid
from typing import Annotated

from fastapi import APIRouter

from services.identity.members import service
from services.identity.members.schemas import CurrentMembers, MemberOut, MembersAsked, MembershipOut, RoleChange
from shared.auth import Principal
from shared.current_principal import CurrentPrincipal, operation
from shared.pagination import Cursor, Limit, Page, cut_page, decode_cursor
from shared.service_permissions import Operation
from shared.session_dependencies import TenantSession

router = APIRouter(prefix="/v1/members", tags=["Members"])
internal_router = APIRouter(prefix="/internal/members", include_in_schema=False)
MembershipReader = Annotated[Principal, operation(Operation.READ_MEMBERSHIPS)]


@router.get("")
async def list_members(
    session: TenantSession, principal: CurrentPrincipal, limit: Limit = 50, cursor: Cursor = None
) -> Page[MemberOut]:
    """Members in the order they joined."""
    rows = await service.page(session, principal, limit=limit, after=decode_cursor(cursor))
    shown, following = cut_page(rows, limit, lambda row: (row.joined_at, row.user_id))
    return Page(items=[MemberOut.model_validate(row, from_attributes=True) for row in shown], next_cursor=following)


@router.patch("/{user_id}")
async def change_role(
    session: TenantSession, principal: CurrentPrincipal, user_id: uuid.UUID, body: RoleChange
) -> MemberOut:
    """Change a member's role."""
    member = await service.change_role(session, principal, user_id=user_id, role=body.role)
    return MemberOut.model_validate(member, from_attributes=True)


@router.delete("/{user_id}", status_code=204)
async def remove_member(session: TenantSession, principal: CurrentPrincipal, user_id: uuid.UUID) -> None:
    """Remove a member, or leave the tenant yourself. The member's API keys for this tenant are revoked as well."""
    await service.remove(session, principal, user_id=user_id)


@internal_router.get("/{user_id}")
async def membership_for_a_service(
    session: TenantSession, _caller: MembershipReader, user_id: uuid.UUID
) -> MembershipOut:
    """Whether a user belongs to the tenant, for a service that is about to grant the user something in it."""
    return MembershipOut.model_validate(await service.membership(session, user_id=user_id), from_attributes=True)


@internal_router.post("")
async def current_members(session: TenantSession, _caller: MembershipReader, body: MembersAsked) -> CurrentMembers:
    """Which of some users belong to the tenant now."""
    return CurrentMembers(numbers=await service.membership_numbers(session, user_ids=body.user_ids))
