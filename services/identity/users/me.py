"""The caller's own user, tenants and scopes (`GET /v1/me`)."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.tenants import service as tenants
from services.identity.users import service
from services.identity.users.schemas import CredentialOut, Me, TenantRoleOut, UserOut
from shared.auth import PROJECT_ROLE_SCOPES, Principal, Scope
from shared.errors import Forbidden


async def describe(session: AsyncSession, principal: Principal) -> Me:
    """The caller, the tenants it may use and what it may do in the active one.

    Raises:
        Forbidden: the caller is a service.
    """
    if principal.user_id is None:
        raise Forbidden("Only a user can read this; the caller is a service.")
    user = await service.by_id(session, principal.user_id)
    mine = await tenants.all_of(session, principal)
    shown = [TenantRoleOut(id=item.id, name=item.name, role=item.role) for item in mine]
    return Me(
        user=UserOut(id=user.id, name=user.name, email=user.email, email_verified=user.email_verified),
        tenant=next((tenant for tenant in shown if tenant.id == principal.tenant_id), None),
        tenants=shown,
        scopes=sorted(_at_most(principal)),
        credential=CredentialOut(kind=principal.kind, id=principal.credential_id, project_id=principal.project_id),
    )


def _at_most(principal: Principal) -> frozenset[Scope]:
    if principal.is_tenant_admin:
        return principal.limit
    if principal.tenant_role is None:
        return frozenset()
    return principal.limit & PROJECT_ROLE_SCOPES["owner"]
