"""Events of the identity service, stream `events.identity`."""

import uuid
from typing import ClassVar, Literal

from shared.events.envelope import Event

TenantRole = Literal["owner", "admin", "member"]


class TenantCreated(Event):
    """A tenant exists, with its first owner. Sent once; projections of tenants start here."""

    type: ClassVar[str] = "identity.tenant.created.v1"
    subject_field: ClassVar[str] = "tenant_id"

    tenant_id: uuid.UUID
    name: str
    owner_id: uuid.UUID


class TenantDeleted(Event):
    """A tenant is gone for its members. Every service forgets it: caches, streams, jobs."""

    type: ClassVar[str] = "identity.tenant.deleted.v1"
    subject_field: ClassVar[str] = "tenant_id"

    tenant_id: uuid.UUID


class MembershipChanged(Event):
    """A user joined a tenant, got another role, or left (`role` is null). Credentials of the user are re-evaluated."""

    type: ClassVar[str] = "identity.membership.changed.v1"
    subject_field: ClassVar[str] = "user_id"

    tenant_id: uuid.UUID
    user_id: uuid.UUID
    role: TenantRole | None


class SessionRevoked(Event):
    """A browser session no longer counts: signed out, revoked, or its active tenant changed. Open streams of it close.

    A session without an active tenant announces nothing: nobody can have used it for a tenant's data.
    """

    type: ClassVar[str] = "identity.session.revoked.v1"
    subject_field: ClassVar[str] = "session_id"

    session_id: uuid.UUID
    user_id: uuid.UUID


class ApiKeyRevoked(Event):
    """An API key no longer counts. Cached tokens of it are dropped and open streams close."""

    type: ClassVar[str] = "identity.api_key.revoked.v1"
    subject_field: ClassVar[str] = "api_key_id"

    api_key_id: uuid.UUID
    user_id: uuid.UUID
