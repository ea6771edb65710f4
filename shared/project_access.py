"""Who may see a project, for services that do not own projects: a projection of the projects service's events.

Guarantees: access removed at the owner is removed here as soon as its event arrives; a project, or the caller's role in
it, that the projection does not know yet is requested from its owner and remembered, so a client that creates a
project, or is given a role, and uses it at once never gets a 404. A stranger is refused by the same steps, and so in
the same time, whether the project exists or not. Rows and late events are ordered by the aggregate's sequence, not by
arrival. The owner is asked outside transactions, in few requests of a tenant at once.
Fails by: `Unavailable` when the caller's access is unknown here and the owner does not respond.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import aiohttp
from pydantic import BaseModel
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    PrimaryKeyConstraint,
    Select,
    Uuid,
    and_,
    bindparam,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from shared import service_client
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
from shared.fair_semaphore import FairSemaphore
from shared.handlers import Handler
from shared.invalidations.projected_copies import Projection
from shared.tenancy import Database, TenantOwned, tenant_of

T = TypeVar("T")

# Limits of requests to the owner: of this process, of one tenant, and those of a tenant that wait.
ASKED_AT_ONCE: Final = 16
ASKED_EACH: Final = 4
ASKED_WAITING: Final = 64
ASKING_SECONDS: Final = 2 * service_client.WITHIN_SECONDS


class KnownProject(TenantOwned, Model):
    """A project as last known. `active` is false once deleted."""

    __tablename__ = "known_projects"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "project_id"),)

    project_id: Mapped[uuid.UUID]
    active: Mapped[bool]
    sequence: Mapped[int] = mapped_column(BigInteger)


class ProjectAccess(TenantOwned, Model):
    """A user's role in a project as last known; `role` is null once removed. It counts in the user's membership of
    the tenant with that number, and in no later one."""

    __tablename__ = "project_access"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "project_id", "user_id"),)

    project_id: Mapped[uuid.UUID]
    user_id: Mapped[uuid.UUID]
    role: Mapped[str | None]
    membership_number: Mapped[int] = mapped_column(server_default=text("1"))
    sequence: Mapped[int] = mapped_column(BigInteger)


def held_by(principal: Principal) -> ColumnElement[bool]:
    """Roles of the principal's user that count: those granted in the membership it speaks from."""
    return _held_by(principal.user_id, principal.membership_number)


def _held_by(user_id: object, membership_number: object) -> ColumnElement[bool]:
    return and_(
        ProjectAccess.user_id == user_id,
        ProjectAccess.membership_number == membership_number,
    )


# Statements are made once: making one takes longer than running it.
OF_PROJECT: Final = bindparam("of_project", type_=Uuid())
_ROLE_OF_CALLER: Final = and_(
    ProjectAccess.project_id == KnownProject.project_id,
    _held_by(bindparam("of_user", type_=Uuid()), bindparam("of_membership", type_=Integer())),
)
_HEARD: Final = (
    select(KnownProject.active, ProjectAccess.role)
    .outerjoin(ProjectAccess, _ROLE_OF_CALLER)
    .where(KnownProject.project_id == OF_PROJECT)
)
_STAMPED: Final = "inserts only: Postgres stamps the tenant and its policy checks it"
_REMEMBER_PROJECT: Final = text(
    "INSERT INTO known_projects (project_id, active, sequence) VALUES (:project_id, :active, :sequence) "
    "ON CONFLICT (tenant_id, project_id) DO UPDATE SET active = excluded.active, sequence = excluded.sequence "
    "WHERE known_projects.sequence < excluded.sequence"
).execution_options(tenant_guard=_STAMPED)
_REMEMBER_ROLE: Final = text(
    "INSERT INTO project_access (project_id, user_id, role, membership_number, sequence) "
    "VALUES (:project_id, :user_id, :role, :membership_number, :sequence) "
    "ON CONFLICT (tenant_id, project_id, user_id) DO UPDATE "
    "SET role = excluded.role, membership_number = excluded.membership_number, sequence = excluded.sequence "
    "WHERE project_access.sequence < excluded.sequence"
).execution_options(tenant_guard=_STAMPED)


class _Member(BaseModel):
    user_id: uuid.UUID
    role: ProjectRole
    membership_number: int = 1


class _Access(BaseModel):
    """The owner's response to `GET /internal/projects/{id}/access`."""

    project_id: uuid.UUID
    status: str
    revision: int
    members: list[_Member]


@dataclass(frozen=True, slots=True)
class _Heard:
    """What is known of a project and of the caller's role in it. `active`: None for an unknown project."""

    active: bool | None
    role: ProjectRole | None

    def suffices(self, principal: Principal) -> bool:
        """Whether the owner need not be asked."""
        return self.active is not None and (self.role is not None or principal.is_tenant_admin)

    def require(self, principal: Principal, project_id: uuid.UUID, scope: Scope) -> None:
        if not self.active:
            raise NotFound
        principal.require_in_project(scope, project_id, self.role)


@dataclass(frozen=True, slots=True)
class Admission:
    """A permission found by `ProjectDirectory.admit`, to be checked again with everything that is read under it: it may
    be gone by then."""

    directory: "ProjectDirectory"
    principal: Principal
    project_id: uuid.UUID
    scope: Scope

    async def rows(
        self, session: AsyncSession, reading: Select[*tuple[Any, ...]], values: Mapping[str, object]
    ) -> list[Sequence[Any]]:
        """What `reading` finds, in a transaction of the tenant; the same statement checks the permission.

        Args:
            reading: made by `admitted`.
            values: of its own parameters.

        Raises:
            NotFound, Forbidden, Unavailable: as `ProjectDirectory.require`, whatever would be found.
        """
        self.directory.check(tenant_of(session))
        rows = (await session.execute(reading, {**values, **_caller(self.principal, self.project_id)})).all()
        # No rows also means no result about the permission.
        heard = _Heard(*rows[0][-2:]) if rows else await _heard(session, self.project_id, self.principal)
        heard.require(self.principal, self.project_id, self.scope)
        return [row[:-2] for row in rows]


def admitted(reading: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """`reading` as `Admission.rows` takes it: with the columns that tell the caller's permission.

    Args:
        reading: names what it selects from (`select_from` or `join`); `OF_PROJECT` stands for the project.
    """
    return (
        reading.join(KnownProject, KnownProject.project_id == OF_PROJECT)
        .outerjoin(ProjectAccess, _ROLE_OF_CALLER)
        .add_columns(KnownProject.active, ProjectAccess.role)
    )


class ProjectDirectory:
    """Decides by the projection under a lease of the projects service, and asks that service about what is unknown."""

    def __init__(
        self, projects_url: str, tokens: ServiceTokens, client: aiohttp.ClientSession, projection: Projection
    ) -> None:
        self._url = projects_url.rstrip("/")
        self._tokens = tokens
        self._client = client
        self._projection = projection
        self._asking = FairSemaphore(ASKED_AT_ONCE, each=ASKED_EACH, waiting=ASKED_WAITING)

    def check(self, tenant_id: uuid.UUID) -> None:
        """Require that what is known of a tenant's projects may be used. Raises Unavailable: see `Projection.check`."""
        self._projection.check(tenant_id)

    async def ensure_known(
        self,
        database: Database,
        principal: Principal,
        *,
        tenant_id: uuid.UUID,
        project_id: uuid.UUID,
        asker: Hashable | None = None,
    ) -> None:
        """Learn what `principal` may do in a project, so that `require` can decide.

        To be called outside transactions: the owner may take long to respond, and connections are few.

        Args:
            asker: whose turn it is to ask the owner; the tenant unless given.

        Raises:
            NotFound: the owner knows of no such project, or of no role of the caller in it.
            Unavailable: the caller's access is unknown here and the owner does not respond, or too many ask.
        """
        await self._wait(principal, tenant_id, project_id)
        async with database.tenant(tenant_id) as session:
            heard = await _heard(session, project_id, principal)
        if not heard.suffices(principal):
            await self._learn(database, principal, tenant_id, project_id, tenant_id if asker is None else asker)

    async def require(
        self, session: AsyncSession, principal: Principal, *, project_id: uuid.UUID, scope: Scope
    ) -> None:
        """Permission of `principal` in a project of the session's tenant, by what is known of it (`ensure_known`).

        Raises:
            NotFound: no such project, deleted, or none of the caller's.
            Forbidden: the caller knows the project but may not do this.
            Unavailable: the projects service has not responded lately.
        """
        _require_own(principal, project_id)
        self.check(tenant_of(session))
        (await _heard(session, project_id, principal)).require(principal, project_id, scope)

    async def admit(
        self, database: Database, principal: Principal, *, tenant_id: uuid.UUID, project_id: uuid.UUID, scope: Scope
    ) -> Admission:
        """As `ensure_known` and then `require`, in one transaction where the owner need not be asked.

        Raises:
            NotFound, Forbidden, Unavailable: as those.
        """
        admission, _ = await self.admit_and_read(
            database, principal, tenant_id=tenant_id, project_id=project_id, scope=scope, read=_nothing
        )
        return admission

    async def admit_and_read(
        self,
        database: Database,
        principal: Principal,
        *,
        tenant_id: uuid.UUID,
        project_id: uuid.UUID,
        scope: Scope,
        read: Callable[[AsyncSession], Awaitable[T]],
    ) -> tuple[Admission, T]:
        """`admit`, and what `read` finds in the same transaction, which only who is admitted is given.

        Raises:
            NotFound, Forbidden, Unavailable: as `admit`.
        """
        await self._wait(principal, tenant_id, project_id)
        async with database.tenant(tenant_id) as session:
            heard, found = await _heard(session, project_id, principal), await read(session)
        if not heard.suffices(principal):
            await self._learn(database, principal, tenant_id, project_id, tenant_id)
            async with database.tenant(tenant_id) as session:
                heard, found = await _heard(session, project_id, principal), await read(session)
        heard.require(principal, project_id, scope)
        return Admission(self, principal, project_id, scope), found

    async def _wait(self, principal: Principal, tenant_id: uuid.UUID, project_id: uuid.UUID) -> None:
        """For callers outside transactions: waiting inside one would keep a connection from others."""
        _require_own(principal, project_id)
        await self._projection.wait(tenant_id)

    async def _learn(
        self, database: Database, principal: Principal, tenant_id: uuid.UUID, project_id: uuid.UUID, asker: Hashable
    ) -> None:
        """Also for a project that is known: a refusal without asking would be faster, and so reveal that it exists."""
        access = await self._ask(principal, tenant_id, project_id, asker)
        async with database.tenant(tenant_id) as session:
            await _remember(session, project_id, access)

    async def _ask(self, principal: Principal, tenant_id: uuid.UUID, project_id: uuid.UUID, asker: Hashable) -> _Access:
        """The owner's response; for all but the tenant's owners and admins, only if they have a role.

        Raises:
            NotFound: the owner knows of no such project, or of no such role.
        """
        params = {}
        if principal.user_id is not None and not principal.is_tenant_admin:
            params = {"user_id": str(principal.user_id), "membership_number": str(principal.membership_number)}
        try:
            async with asyncio.timeout(ASKING_SECONDS), self._asking.turn(asker):
                token = await self._tokens.token("projects", tenant_id)
                status, body = await service_client.ask(
                    self._client,
                    "GET",
                    f"{self._url}/internal/projects/{project_id}/access",
                    params=params,
                    headers={"Authorization": f"Bearer {token}"},
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("The projects service cannot be reached.", retry_after=1) from error
        if status == 404:
            raise NotFound
        if status != 200:
            raise Unavailable("The projects service cannot respond now.", retry_after=1)
        return _Access.model_validate_json(body)


async def _nothing(_: AsyncSession) -> None:
    return


def _require_own(principal: Principal, project_id: uuid.UUID) -> None:
    """A credential of one project knows of no other."""
    if principal.project_id not in (None, project_id):
        raise NotFound


async def _remember(session: AsyncSession, project_id: uuid.UUID, access: _Access) -> None:
    await _remember_project(session, project_id, active=access.status == "active", sequence=access.revision)
    for member in access.members:
        await _remember_role(
            session, project_id, member.user_id, member.role, member.membership_number, access.revision
        )


async def _heard(session: AsyncSession, project_id: uuid.UUID, principal: Principal) -> _Heard:
    """A principal without a user has no roles."""
    found = (await session.execute(_HEARD, _caller(principal, project_id))).one_or_none()
    return _Heard(None, None) if found is None else _Heard(found.active, cast("ProjectRole | None", found.role))


def _caller(principal: Principal, project_id: uuid.UUID) -> dict[str, object]:
    """Values for the statements that ask what a caller may do in a project."""
    return {
        "of_project": project_id,
        "of_user": principal.user_id,
        "of_membership": principal.membership_number,
    }


async def _remember_project(session: AsyncSession, project_id: uuid.UUID, *, active: bool, sequence: int) -> None:
    await session.execute(_REMEMBER_PROJECT, {"project_id": project_id, "active": active, "sequence": sequence})


async def _remember_role(
    session: AsyncSession,
    project_id: uuid.UUID,
    user_id: uuid.UUID,
    role: ProjectRole | None,
    membership_number: int,
    sequence: int,
) -> None:
    await session.execute(
        _REMEMBER_ROLE,
        {
            "project_id": project_id,
            "user_id": user_id,
            "role": role,
            "membership_number": membership_number,
            "sequence": sequence,
        },
    )


async def _on_created(session: AsyncSession, event: ProjectCreated, envelope: Envelope) -> None:
    await _remember_project(session, event.project_id, active=True, sequence=envelope.sequence)
    await _remember_role(session, event.project_id, event.owner_id, "owner", event.membership_number, envelope.sequence)


async def _on_deleted(session: AsyncSession, event: ProjectDeleted, envelope: Envelope) -> None:
    await _remember_project(session, event.project_id, active=False, sequence=envelope.sequence)


async def _on_restored(session: AsyncSession, event: ProjectRestored, envelope: Envelope) -> None:
    await _remember_project(session, event.project_id, active=True, sequence=envelope.sequence)


async def _on_member_changed(session: AsyncSession, event: ProjectMemberChanged, envelope: Envelope) -> None:
    await _remember_role(
        session, event.project_id, event.user_id, event.role, event.membership_number, envelope.sequence
    )


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
