"""What two tenants hold and what each of their people is to be told: the public API's rules, restated.

Pure: nothing here asks the product anything. A credential speaks for a user in one tenant: a browser's in the one that
is active, a key's in the one it was made in. An expectation is the set of statuses that are right; more than one only
where a document's job runs beside the request.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

TenantRole = Literal["owner", "admin", "member"]
ProjectRole = Literal["owner", "editor", "viewer"]

_VIEWER: Final = frozenset({"projects:read", "documents:read", "search", "events:read"})
_OF_ROLE: Final = {
    "viewer": _VIEWER,
    "editor": _VIEWER | {"documents:write"},
    "owner": _VIEWER | {"documents:write", "projects:write", "members:admin"},
}
ALL: Final = _OF_ROLE["owner"] | {"keys:admin", "webhooks:admin", "audit:read", "tenant:admin"}
_UNKNOWN: Final = 401
_FORBIDDEN: Final = 403
_NOTHING: Final = 404


@dataclass(slots=True)
class Document:
    """`settled` is its last status once no job runs; `cancelled`: it was asked to stop at some time."""

    id: str
    word: str
    broken: bool
    settled: str | None = None
    cancelled: bool = False
    deleted: bool = False


@dataclass(slots=True)
class Project:
    id: str
    name: str
    roles: dict[str, ProjectRole]
    revision: int = 1
    deleted: bool = False
    documents: dict[str, Document] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        return f'"{self.revision}"'

    @property
    def there(self) -> list[Document]:
        return [document for document in self.documents.values() if not document.deleted]

    def is_last_owner(self, user: str) -> bool:
        return [name for name, role in self.roles.items() if role == "owner"] == [user]


@dataclass(slots=True)
class Invitation:
    id: str
    user: str
    role: TenantRole
    token: str
    open: bool = True


@dataclass(slots=True)
class Tenant:
    """`roles` of present members by the user's name."""

    id: str
    letter: str
    roles: dict[str, TenantRole] = field(default_factory=dict)
    projects: dict[str, Project] = field(default_factory=dict)
    invitations: dict[str, Invitation] = field(default_factory=dict)

    def is_last_owner(self, user: str) -> bool:
        return [name for name, role in self.roles.items() if role == "owner"] == [user]


@dataclass(slots=True)
class Credential:
    """A browser session, or a key: `limit` is the most it may do, `project` the only one it may know."""

    name: str
    user: str
    tenant: Tenant
    is_key: bool = False
    id: str = ""
    limit: frozenset[str] = ALL
    project: str | None = None
    revoked: bool = False

    @property
    def role(self) -> TenantRole | None:
        return self.tenant.roles.get(self.user)

    @property
    def is_admin(self) -> bool:
        return self.role in ("owner", "admin")

    @property
    def counts(self) -> bool:
        return not self.revoked

    @property
    def at_most(self) -> frozenset[str]:
        """The scopes `/v1/me` names."""
        if self.role is None:
            return frozenset()
        return self.limit if self.is_admin else self.limit & _OF_ROLE["owner"]

    # --- what it is told, None when it is let in ---------------------------------------------------------------------

    def refused(self) -> int | None:
        """Everywhere within a tenant."""
        if not self.counts:
            return _UNKNOWN
        return _FORBIDDEN if self.role is None else None

    def refused_tenant_wide(self, scope: str) -> int | None:
        if (status := self.refused()) is not None:
            return status
        return None if self.is_admin and scope in self.limit and self.project is None else _FORBIDDEN

    def refused_insight(self) -> int | None:
        """Into who is a member."""
        if (status := self.refused()) is not None:
            return status
        return None if "members:admin" in self.limit and self.project is None else _FORBIDDEN

    def refused_reading(self, scope: str) -> int | None:
        """Of lists that are cut down to what one may see."""
        if (status := self.refused()) is not None:
            return status
        return None if scope in self.limit else _FORBIDDEN

    def refused_in(self, project_id: str, scope: str, *, deleted: bool = False) -> int | None:
        if (status := self.refused()) is not None:
            return status
        project = self.tenant.projects.get(project_id)
        if project is None or (project.deleted and not deleted):
            return _NOTHING
        scopes = self.scopes_in(project)
        if not scopes:
            return _NOTHING
        return None if scope in scopes else _FORBIDDEN

    def scopes_in(self, project: Project) -> frozenset[str]:
        if self.project not in (None, project.id):
            return frozenset()
        if self.is_admin:
            return self.limit
        role = project.roles.get(self.user)
        return self.limit & _OF_ROLE[role] if role is not None else frozenset()

    def visible(self, *, deleted: bool = False) -> Iterator[Project]:
        """What its list of projects holds."""
        for project in self.tenant.projects.values():
            seen = self.is_admin or self.user in project.roles
            if project.deleted == deleted and seen and self.project in (None, project.id):
                yield project

    def refused_grant(self, *roles: TenantRole | None) -> int | None:
        """Owners are made, changed and removed by owners."""
        return _FORBIDDEN if "owner" in roles and self.role != "owner" else None


def matched(tag: str | None, project: Project) -> int | None:
    """What an `If-Match` is answered by, None when it holds."""
    if tag is None:
        return 428
    return None if tag in ("*", project.etag) else 412


def cancelling(document: Document) -> set[int]:
    return {409} if document.settled is not None else {202, 409}


def retrying(document: Document) -> set[int]:
    if document.settled is None:
        return {202, 409}
    return {409} if document.settled == "indexed" else {202}


def outcomes(document: Document) -> set[str]:
    """The statuses one of which a document has once no job runs."""
    return {"failed" if document.broken else "indexed"} | ({"cancelled"} if document.cancelled else set())
