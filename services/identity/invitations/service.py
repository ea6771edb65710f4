"""Invitations: a token for one person, who proves the invited address by signing in with it.

Accepting takes two transactions: the system role finds the tenant of the token, and everything else happens in that
tenant's own. Nothing changes between them, so there is nothing to repair after a crash.
"""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.credentials import hashed, new_secret
from services.identity.invitations import repository
from services.identity.invitations.errors import InvitationForSomeoneElse
from services.identity.invitations.models import Invitation
from services.identity.members import grant_policy
from services.identity.members import service as members
from services.identity.sessions.service import SignedIn
from services.identity.settings import IdentitySettings
from services.identity.tenants import repository as tenants
from services.identity.tenants.repository import TenantOfUser
from services.identity.users import service as users
from shared.auth import Principal, Scope
from shared.errors import Forbidden, NotFound, QuotaExceeded
from shared.events.identity import TenantRole
from shared.transactions import Transactions


async def create(
    session: AsyncSession, principal: Principal, *, email: str, role: TenantRole, settings: IdentitySettings
) -> tuple[Invitation, str]:
    """Invite an address; returns also the token, which is not kept. An earlier invitation of the same address ends.

    Raises:
        Forbidden: not an administrator, `OwnersOnly` or `GrantTooWide`.
        QuotaExceeded: too many invitations wait.
    """
    key = await grant_policy.check_grantor(session, principal, Scope.MEMBERS_ADMIN)
    await grant_policy.check_role(session, principal, role)
    if principal.user_id is None:
        raise Forbidden("Only a user can send invitations.")
    email = users.normalized_email(email)
    await repository.revoke_pending_of(session, email)
    if (used := await repository.count_open(session)) >= settings.max_invitations_per_tenant:
        raise QuotaExceeded("invitations_per_tenant", limit=settings.max_invitations_per_tenant, used=used)
    token = new_secret()
    invitation = Invitation(
        email=email,
        role=role,
        token_hash=hashed(token),
        invited_by=principal.user_id,
        invited_by_key=None if key is None else key.id,
        expires_at=datetime.now(UTC) + timedelta(seconds=settings.invitation_seconds),
    )
    return await repository.add(session, invitation), token


async def page(
    session: AsyncSession, principal: Principal, *, limit: int, after: tuple[datetime, uuid.UUID] | None
) -> Sequence[Invitation]:
    principal.require(Scope.MEMBERS_ADMIN)
    return await repository.page(session, limit=limit, after=after)


async def revoke(session: AsyncSession, principal: Principal, *, invitation_id: uuid.UUID) -> None:
    """Raises NotFound: unknown here, accepted or already revoked."""
    principal.require(Scope.MEMBERS_ADMIN)
    invitation = await repository.pending_by_id(session, invitation_id)
    if invitation is None:
        raise NotFound
    invitation.revoked_at = datetime.now(UTC)


async def accept(
    transactions: Transactions, caller: SignedIn, *, token: str, settings: IdentitySettings
) -> TenantOfUser:
    """Join the tenant the token leads to. The sender, and the key it was sent with, must still be able to invite.

    Raises:
        NotFound: unknown, expired, revoked, used or no longer standing, or the tenant is deleted.
        QuotaExceeded: the tenant has as many members as it may have.
        InvitationForSomeoneElse: the caller has not verified the invited address.
        AlreadyMember: the caller belongs to the tenant; the invitation stays open.
    """
    async with transactions.system() as session:
        tenant_id = await repository.tenant_of_open(session, hashed(token))
        user = await users.by_id(session, caller.user_id)
    if tenant_id is None:
        raise NotFound
    async with transactions.tenant(tenant_id) as session:
        if await tenants.active(session) is None:
            raise NotFound
        invitation = await repository.open_by_hash(session, hashed(token))
        if invitation is None or not await grant_policy.still_stands(
            session, user_id=invitation.invited_by, key_id=invitation.invited_by_key, role=invitation.role
        ):
            raise NotFound
        if not user.email_verified or user.email != invitation.email:
            raise InvitationForSomeoneElse
        most = settings.max_members_per_tenant
        await members.join(session, user_id=caller.user_id, role=invitation.role, most=most)
        invitation.accepted_at = datetime.now(UTC)
        tenant = await tenants.active(session)
        if tenant is None:
            raise NotFound
        return tenants.seen_by(tenant, invitation.role)


def status_of(invitation: Invitation) -> str:
    return "open" if invitation.expires_at > datetime.now(UTC) else "expired"
