"""Events of the identity service, stream `events.identity`."""

import uuid
from typing import ClassVar, Literal

from shared.events.envelope import Event

TenantRole = Literal["owner", "admin", "member"]


class TenantCreated(Event):
    """A tenant was created, with its first owner.

    Sent: once, in the transaction that creates the tenant. The owner's `MembershipChanged` follows.

    For: consumers that keep state for a tenant from its creation. No service of Quarry needs it yet.
    """

    type: ClassVar[str] = "identity.tenant.created.v1"
    subject_field: ClassVar[str] = "tenant_id"

    tenant_id: uuid.UUID
    """The new tenant."""
    name: str
    """Its name at creation."""
    owner_id: uuid.UUID
    """The user who created it."""


class TenantDeleted(Event):
    """A tenant was deleted; its members have no access any more.

    Sent: once, when an owner deletes the tenant.

    For: every service that holds data of the tenant. Cached tokens are dropped and open streams end. Projects, indexing
    and the notifier leave a tombstone, so that nothing is created for the tenant any more, and then erase its data in
    batches: projects, documents and their bytes; jobs, chunks and vectors; feeds.
    """

    type: ClassVar[str] = "identity.tenant.deleted.v1"
    subject_field: ClassVar[str] = "tenant_id"

    tenant_id: uuid.UUID
    """The deleted tenant."""


class MembershipChanged(Event):
    """A user joined a tenant, got another role, or left.

    Sent: on every change of a membership, including the first owner's.

    For: every service that holds decisions based on the old role: cached tokens are dropped, open streams end.
    """

    type: ClassVar[str] = "identity.membership.changed.v1"
    subject_field: ClassVar[str] = "user_id"

    tenant_id: uuid.UUID
    """The tenant of the membership."""
    user_id: uuid.UUID
    """The user whose membership it is."""
    role: TenantRole | None
    """The role after the change; null for a user who left."""
    membership_number: int = 1
    """Which of the user's memberships of this tenant it is; increases when a user who left joins again."""


class SessionRevoked(Event):
    """A browser session is no longer valid in the envelope's tenant.

    Sent: when a session is signed out, revoked or displaced by a newer one, and when its active tenant changes. For a
    session without an active tenant, `tenantid` is the nil UUID, which no tenant has.

    For: every service that holds something obtained with the session: cached tokens are dropped, open streams end.
    """

    type: ClassVar[str] = "identity.session.revoked.v1"
    subject_field: ClassVar[str] = "session_id"

    session_id: uuid.UUID
    """The session; its internal tokens carry this as their credential id."""
    user_id: uuid.UUID
    """The user whose session it was."""


class ApiKeyRevoked(Event):
    """An API key is no longer valid.

    Sent: once per key, when it is revoked or its creator leaves the tenant; not when it expires.

    For: every service that holds something obtained with the key: cached tokens are dropped, open streams end.
    """

    type: ClassVar[str] = "identity.api_key.revoked.v1"
    subject_field: ClassVar[str] = "api_key_id"

    api_key_id: uuid.UUID
    """The key; its internal tokens carry this as their credential id."""
    user_id: uuid.UUID
    """The user who created it."""
