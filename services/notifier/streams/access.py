"""Who may follow which feed, asked when a stream opens and again while it is open."""

import uuid
from collections.abc import Hashable

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.notifier.feeds.repository import FeedKey
from shared.auth import Principal, Scope
from shared.errors import Forbidden
from shared.project_access import KnownProject, ProjectAccess, ProjectDirectory, held_by
from shared.tenancy import Database

EVERYTHING = None


async def ensure_known(
    database: Database,
    principal: Principal,
    directory: ProjectDirectory,
    key: FeedKey,
    *,
    asker: Hashable | None = None,
) -> None:
    """Make sure that what `require` needs is known here; called without an open transaction.

    Raises:
        NotFound, Unavailable: as `require`.
    """
    project_id = principal.project_id if key.is_tenant_wide else key.project_id
    if project_id is not None:
        await directory.ensure_known(database, principal, tenant_id=key.tenant_id, project_id=project_id, asker=asker)


async def require(
    session: AsyncSession, principal: Principal, directory: ProjectDirectory, key: FeedKey
) -> frozenset[uuid.UUID] | None:
    """The projects of the feed whose events the principal may see; None for all.

    Raises:
        NotFound: the project is none of the caller's.
        Forbidden: the credential may not read events.
        Unavailable: the service that owns projects has not been heard from lately.
    """
    if (project_id := key.project_id) is not None:
        # What a run tells is what its caller's searches found.
        scope = Scope.SEARCH if key.is_run else Scope.EVENTS_READ
        await directory.require(session, principal, project_id=project_id, scope=scope)
        return EVERYTHING
    if Scope.EVENTS_READ not in principal.limit:
        raise Forbidden
    if principal.project_id is not None:
        await directory.require(session, principal, project_id=principal.project_id, scope=Scope.EVENTS_READ)
        return frozenset({principal.project_id})
    if principal.is_tenant_admin:
        return EVERYTHING
    directory.check(key.tenant_id)
    return await _projects_of(session, principal)


async def _projects_of(session: AsyncSession, principal: Principal) -> frozenset[uuid.UUID]:
    """Active projects in which the user has a role; every role may read events."""
    rows = await session.scalars(
        select(ProjectAccess.project_id)
        .join(KnownProject, KnownProject.project_id == ProjectAccess.project_id)
        .where(held_by(principal), ProjectAccess.role.is_not(None), KnownProject.active)
    )
    return frozenset(rows)
