"""Who may see a project, for services that do not own projects: a projection of the projects service's events.

Guarantees: access removed at the owner is removed here as soon as its event arrives; what the projection has not heard
of yet, the project or the caller's role in it, is asked for at its owner and remembered, so a client that creates a
project, or is given a role, and uses it at once is never told 404. A stranger is refused by the same steps, and so in
the same time, whether the project exists or not. Rows and late events are ordered by the aggregate's sequence, not by
arrival.
Fails by: `Unavailable` when the caller's access is unknown here and the owner does not answer.
"""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
from pydantic import BaseModel
from sqlalchemy import BigInteger, PrimaryKeyConstraint, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from shared import neighbours
from shared.auth import Principal, Scope, ServiceTokens
from shared.db import Model
from shared.errors import NotFound, Unavailable
from shared.events.envelope import Envelope
from shared.events.projects import (
    ProjectCreated,
    ProjectDeleted,
    ProjectEvent,
    ProjectMemberChanged,
    ProjectRestored,
    ProjectRole,
)
from shared.handlers import Handler
from shared.tenancy import TenantOwned, tenant_of


class KnownProject(TenantOwned, Model):
    """A project as last heard of. `active` is false once deleted."""

    __tablename__ = "known_projects"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "project_id"),)

    project_id: Mapped[uuid.UUID]
    active: Mapped[bool]
    sequence: Mapped[int] = mapped_column(BigInteger)


class ProjectAccess(TenantOwned, Model):
    """A user's role in a project as last heard of; `role` is null once removed."""

    __tablename__ = "project_access"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "project_id", "user_id"),)

    project_id: Mapped[uuid.UUID]
    user_id: Mapped[uuid.UUID]
    role: Mapped[str | None]
    sequence: Mapped[int] = mapped_column(BigInteger)


class _Member(BaseModel):
    user_id: uuid.UUID
    role: ProjectRole


class _Access(BaseModel):
    """Answer of the owner: `GET /internal/projects/{id}/access`."""

    project_id: uuid.UUID
    status: str
    revision: int
    members: list[_Member]


class ProjectDirectory:
    """Answers from the projection, and asks the projects service about what it has not heard of."""

    def __init__(self, projects_url: str, tokens: ServiceTokens, client: aiohttp.ClientSession) -> None:
        self._url = projects_url.rstrip("/")
        self._tokens = tokens
        self._client = client

    async def require(
        self, session: AsyncSession, principal: Principal, *, project_id: uuid.UUID, scope: Scope
    ) -> None:
        """Permission of `principal` in a project of the session's tenant.

        Raises:
            NotFound: no such project, deleted, or none of the caller's.
            Forbidden: the caller knows the project but may not do this.
            Unavailable: the caller's access is unknown here and the owner does not answer.
        """
        if principal.project_id not in (None, project_id):
            raise NotFound
        key = (tenant_of(session), project_id)
        project = await session.get(KnownProject, key)
        role = await _role(session, project_id, principal.user_id)
        if project is None or (role is None and not principal.is_tenant_admin):
            # Also for a project that is known: a refusal without asking would be faster, and tell that it exists.
            await self._learn(session, project_id, None if principal.is_tenant_admin else principal.user_id)
            project = await session.get(KnownProject, key, populate_existing=True)
            role = await _role(session, project_id, principal.user_id)
        if project is None or not project.active:
            raise NotFound
        principal.require_in_project(scope, project_id, role)

    async def _learn(self, session: AsyncSession, project_id: uuid.UUID, user_id: uuid.UUID | None) -> None:
        """Remember what the owner says; with a user, only if that one has a role.

        Raises:
            NotFound: the owner knows of no such project, or of no such role.
        """
        token = await self._tokens.token("projects", tenant_of(session))
        try:
            status, body = await neighbours.ask(
                self._client,
                "GET",
                f"{self._url}/internal/projects/{project_id}/access",
                params={} if user_id is None else {"user_id": str(user_id)},
                headers={"Authorization": f"Bearer {token}"},
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("The projects service cannot be reached.", retry_after=1) from error
        if status == 404:
            raise NotFound
        if status != 200:
            raise Unavailable("The projects service cannot answer now.", retry_after=1)
        access = _Access.model_validate_json(body)
        await _remember_project(session, project_id, active=access.status == "active", sequence=access.revision)
        for member in access.members:
            await _remember_role(session, project_id, member.user_id, member.role, access.revision)


async def _role(session: AsyncSession, project_id: uuid.UUID, user_id: uuid.UUID | None) -> ProjectRole | None:
    if user_id is None:
        return None
    role: ProjectRole | None = await session.scalar(
        select(ProjectAccess.role).where(ProjectAccess.project_id == project_id, ProjectAccess.user_id == user_id)
    )
    return role


async def _remember_project(session: AsyncSession, project_id: uuid.UUID, *, active: bool, sequence: int) -> None:
    statement = insert(KnownProject).values(project_id=project_id, active=active, sequence=sequence)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "project_id"],
            set_={"active": statement.excluded.active, "sequence": statement.excluded.sequence},
            where=KnownProject.sequence < statement.excluded.sequence,
        )
    )


async def _remember_role(
    session: AsyncSession, project_id: uuid.UUID, user_id: uuid.UUID, role: ProjectRole | None, sequence: int
) -> None:
    statement = insert(ProjectAccess).values(project_id=project_id, user_id=user_id, role=role, sequence=sequence)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "project_id", "user_id"],
            set_={"role": statement.excluded.role, "sequence": statement.excluded.sequence},
            where=ProjectAccess.sequence < statement.excluded.sequence,
        )
    )


async def _on_created(session: AsyncSession, event: ProjectCreated, envelope: Envelope) -> None:
    await _remember_project(session, event.project_id, active=True, sequence=envelope.sequence)
    await _remember_role(session, event.project_id, event.owner_id, "owner", envelope.sequence)


async def _on_deleted(session: AsyncSession, event: ProjectDeleted, envelope: Envelope) -> None:
    await _remember_project(session, event.project_id, active=False, sequence=envelope.sequence)


async def _on_restored(session: AsyncSession, event: ProjectRestored, envelope: Envelope) -> None:
    await _remember_project(session, event.project_id, active=True, sequence=envelope.sequence)


async def _on_member_changed(session: AsyncSession, event: ProjectMemberChanged, envelope: Envelope) -> None:
    await _remember_role(session, event.project_id, event.user_id, event.role, envelope.sequence)


def access_handlers(service: str) -> Sequence[Handler[Any]]:
    """The handlers that keep the projection of `service`."""

    def handler(
        event: type[ProjectEvent], call: Callable[[AsyncSession, Any, Envelope], Awaitable[None]]
    ) -> Handler[Any]:
        return Handler(event=event, call=call, name=f"{service}.access.{event.type}")

    return (
        handler(ProjectCreated, _on_created),
        handler(ProjectDeleted, _on_deleted),
        handler(ProjectRestored, _on_restored),
        handler(ProjectMemberChanged, _on_member_changed),
    )
