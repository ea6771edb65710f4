"""HTTP shapes of the caller."""

import uuid

from pydantic import BaseModel

from shared.auth import PrincipalKind, Scope
from shared.events.identity import TenantRole


class UserOut(BaseModel):
    id: uuid.UUID
    name: str
    email: str | None
    email_verified: bool


class TenantRoleOut(BaseModel):
    """A tenant and the caller's role in it."""

    id: uuid.UUID
    name: str
    role: TenantRole


class CredentialOut(BaseModel):
    """The credential of this request."""

    kind: PrincipalKind
    id: uuid.UUID | None
    project_id: uuid.UUID | None


class Me(BaseModel):
    """The caller. `tenant` is the active tenant. `scopes` are the most that the credential and the role in that tenant
    allow; a plain member's role in each project narrows them further."""

    user: UserOut
    tenant: TenantRoleOut | None
    tenants: list[TenantRoleOut]
    scopes: list[Scope]
    credential: CredentialOut
