"""Who may follow which feed, asked when a stream opens and again while it is open."""

import uuid

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.notifier.feeds.repository import FeedKey
from shared.access import KnownProject, ProjectAccess, ProjectDirectory
from shared.auth import Principal, Scope
from shared.errors import Forbidden

EVERYTHING = None


async def require(
    session: AsyncSession, principal: Principal, directory: ProjectDirectory, key: FeedKey
) -> frozenset[uuid.UUID] | None:
    """The projects of the feed whose events the principal may see; None for all.

    Raises:
        NotFound: the project is none of the caller's.
        Forbidden: the credential may not read events.
        Unavailable: the project is unknown here and its owner does not answer.
    """
    if not key.is_tenant_wide:
        await directory.require(session, principal, project_id=key.feed_id, scope=Scope.EVENTS_READ)
        return EVERYTHING
    if Scope.EVENTS_READ not in principal.limit:
        raise Forbidden
    if principal.project_id is not None:
        await directory.require(session, principal, project_id=principal.project_id, scope=Scope.EVENTS_READ)
        return frozenset({principal.project_id})
    if principal.is_tenant_admin:
        return EVERYTHING
    return await _projects_of(session, principal.user_id)


async def _projects_of(session: AsyncSession, user_id: uuid.UUID | None) -> frozenset[uuid.UUID]:
    """Active projects in which the user has a role; every role may read events."""
    rows = await session.scalars(
        select(ProjectAccess.project_id)
        .join(KnownProject, KnownProject.project_id == ProjectAccess.project_id)
        .where(ProjectAccess.user_id == user_id, ProjectAccess.role.is_not(None), KnownProject.active)
    )
    return frozenset(rows)
