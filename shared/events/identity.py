"""Events of the identity service, stream `events.identity`."""

import uuid
from typing import ClassVar, Literal

from shared.events.envelope import Event

TenantRole = Literal["owner", "admin", "member"]


class TenantCreated(Event):
    """A tenant exists, with its first owner.

    Sent: once, with the transaction that makes the tenant. The owner's `MembershipChanged` follows.

    For: whoever keeps something per tenant from its beginning. No service of Quarry needs it yet.
    """

    type: ClassVar[str] = "identity.tenant.created.v1"
    subject_field: ClassVar[str] = "tenant_id"

    tenant_id: uuid.UUID
    """The new tenant."""
    name: str
    """Its name as first given."""
    owner_id: uuid.UUID
    """The user who made it."""


class TenantDeleted(Event):
    """A tenant is gone for its members.

    Sent: once, when an owner deletes the tenant.

    For: whoever holds something of the tenant. Cached tokens are dropped and open streams end. Projects, indexing and
    the notifier leave a tombstone, so that nothing is made for it any more, and then erase in pieces: projects,
    documents and their bytes; jobs, chunks and vectors; feeds.
    """

    type: ClassVar[str] = "identity.tenant.deleted.v1"
    subject_field: ClassVar[str] = "tenant_id"

    tenant_id: uuid.UUID
    """The deleted tenant."""


class MembershipChanged(Event):
    """A user joined a tenant, got another role, or left.

    Sent: at every change of a membership, the first owner's included.

    For: whoever holds what was decided by the old role: cached tokens are dropped, open streams end.
    """

    type: ClassVar[str] = "identity.membership.changed.v1"
    subject_field: ClassVar[str] = "user_id"

    tenant_id: uuid.UUID
    """The tenant of the membership."""
    user_id: uuid.UUID
    """Whose membership it is."""
    role: TenantRole | None
    """The role from now on; null for a user who left."""
    membership_number: int = 1
    """Which of the user's memberships of this tenant it is; grows when a user who left comes back."""


class SessionRevoked(Event):
    """A browser session no longer counts in the envelope's tenant.

    Sent: when a session is signed out, revoked or pushed out by a newer one, and when its active tenant changes. For a
    session without an active tenant the envelope names the nil UUID, which is no tenant's.

    For: whoever holds something that session obtained: cached tokens are dropped, open streams end.
    """

    type: ClassVar[str] = "identity.session.revoked.v1"
    subject_field: ClassVar[str] = "session_id"

    session_id: uuid.UUID
    """The session; internal tokens of it carry this as their credential."""
    user_id: uuid.UUID
    """Whose session it was."""


class ApiKeyRevoked(Event):
    """An API key no longer counts.

    Sent: once per key, when it is revoked or its maker leaves the tenant. A key that expires announces nothing.

    For: whoever holds something that key obtained: cached tokens are dropped, open streams end.
    """

    type: ClassVar[str] = "identity.api_key.revoked.v1"
    subject_field: ClassVar[str] = "api_key_id"

    api_key_id: uuid.UUID
    """The key; internal tokens of it carry this as their credential."""
    user_id: uuid.UUID
    """Who made it."""
