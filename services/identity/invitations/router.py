"""`/v1/invitations`: to the active tenant, and accepting one to another."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Path

from services.identity.dependencies import Settings, SignedInUser
from services.identity.invitations import service
from services.identity.invitations.models import Invitation
from services.identity.invitations.schemas import InvitationCreate, InvitationCreated, InvitationOut
from services.identity.users.schemas import TenantRoleOut
from shared.current_principal import CurrentPrincipal
from shared.pagination import Cursor, Limit, Page, cut_page, decode_cursor
from shared.session_dependencies import AnyTransactions, TenantSession

router = APIRouter(prefix="/v1/invitations", tags=["Invitations"])
Token = Annotated[str, Path(min_length=16, max_length=128)]


@router.get("")
async def list_invitations(
    session: TenantSession, principal: CurrentPrincipal, limit: Limit = 50, cursor: Cursor = None
) -> Page[InvitationOut]:
    """Invitations that were neither accepted nor revoked, oldest first."""
    rows = await service.page(session, principal, limit=limit, after=decode_cursor(cursor))
    shown, following = cut_page(rows, limit, lambda row: (row.created_at, row.id))
    return Page(items=[InvitationOut(**_facts(row)) for row in shown], next_cursor=following)


@router.post("", status_code=201)
async def invite(
    session: TenantSession, principal: CurrentPrincipal, settings: Settings, body: InvitationCreate
) -> InvitationCreated:
    """Invite a person by e-mail address. Only this response contains the token."""
    row, token = await service.create(session, principal, email=body.email, role=body.role, settings=settings)
    return InvitationCreated(**_facts(row), token=token)


@router.delete("/{invitation_id}", status_code=204)
async def revoke_invitation(session: TenantSession, principal: CurrentPrincipal, invitation_id: uuid.UUID) -> None:
    """Revoke an invitation."""
    await service.revoke(session, principal, invitation_id=invitation_id)


@router.post("/{token}/accept")
async def accept_invitation(
    transactions: AnyTransactions, caller: SignedInUser, settings: Settings, token: Token
) -> TenantRoleOut:
    """Accept an invitation: join its tenant. Activate the tenant to work in it."""
    tenant = await service.accept(transactions, caller, token=token, settings=settings)
    return TenantRoleOut.model_validate(tenant, from_attributes=True)


def _facts(row: Invitation) -> dict[str, Any]:
    return {
        "id": row.id,
        "email": row.email,
        "role": row.role,
        "status": service.status_of(row),
        "invited_by": row.invited_by,
        "invited_by_key": row.invited_by_key,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
    }
