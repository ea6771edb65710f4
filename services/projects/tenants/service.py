"""A tenant's quotas, and the end of tenants and memberships.

Counters are updated in the transaction of each change, under a lock on the tenant's row, so that two requests at the
edge of a quota cannot both pass. That row is locked after every other one. Every version of a document counts as one
document with its size, also where bytes are shared: what a tenant has left never depends on what others share. Content
of deleted projects still counts: its bytes are kept until the project is restored; the project itself does not, and
needs room to be restored. An unfinished upload counts with the bytes it will have, or those that have arrived where
that is not known.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.tenants import repository
from services.projects.tenants.models import TenantUsage
from shared.errors import NotFound, QuotaExceeded
from shared.events.envelope import Envelope
from shared.events.identity import MembershipChanged, TenantDeleted


@dataclass(frozen=True, slots=True)
class Quotas:
    """The most a tenant may have."""

    projects: int
    documents: int
    bytes: int
    uploads: int
    exports: int
    exports_under_way: int
    open_batches: int


async def take(
    session: AsyncSession, quotas: Quotas, *, projects: int = 0, documents: int = 0, size: int = 0, uploads: int = 0
) -> None:
    """Count what this transaction has written.

    Raises:
        QuotaExceeded: there is no room for it.
        NotFound: the tenant is deleted, and nothing can be added to it.
    """
    taken = {"projects": projects, "documents": documents, "size": size, "uploads": uploads}
    usage: Row[Any] | TenantUsage | None = await repository.add(session, **taken)
    if usage is None:
        # The tenant's first change counts existing rows; else another request was faster, or the tenant is deleted.
        usage = await repository.begin(session) or await repository.add(session, **taken)
    if usage is None:
        raise NotFound
    _require_room("projects", quotas.projects, usage.projects, projects)
    _require_room("documents", quotas.documents, usage.documents, documents)
    _require_room("bytes", quotas.bytes, usage.bytes, size)
    _require_room("uploads", quotas.uploads, usage.uploads, uploads)


async def give_back(
    session: AsyncSession, *, projects: int = 0, documents: int = 0, size: int = 0, uploads: int = 0
) -> None:
    await repository.add(session, projects=-projects, documents=-documents, size=-size, uploads=-uploads)


async def expect_room(session: AsyncSession, quotas: Quotas, *, size: int) -> None:
    """Refuse a document that has no room now before its bytes arrive; `take` decides in the end.

    Raises:
        QuotaExceeded, NotFound: as `take`.
    """
    usage = await repository.used(session)
    if usage is None:
        return
    if usage.deleted_at is not None:
        raise NotFound
    _require_room("documents", quotas.documents, usage.documents + 1, 1)
    _require_room("bytes", quotas.bytes, usage.bytes + size, size)


async def forget_tenant(session: AsyncSession, event: TenantDeleted, envelope: Envelope) -> None:
    """Nothing can be added to the tenant from now on; what exists is removed in batches (`erasure`)."""
    if event.tenant_id != envelope.tenantid:
        raise ValueError("the event names another tenant than its envelope")
    await repository.tombstone(session)


async def note_departure(session: AsyncSession, event: MembershipChanged, envelope: Envelope) -> None:
    """Roles of a user who left the tenant no longer count already; their rows are removed soon (`erasure`)."""
    if event.tenant_id != envelope.tenantid:
        raise ValueError("the event names another tenant than its envelope")
    if event.role is None:
        await repository.note_departure(session, user_id=event.user_id, membership_number=event.membership_number)


def _require_room(quota: str, limit: int, used: int, taken: int) -> None:
    if taken > 0 and used > limit:
        raise QuotaExceeded(quota, limit=limit, used=used - taken)
