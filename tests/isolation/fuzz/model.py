"""What two tenants hold and what each of their people is to be told: the public API's rules, restated.

Pure: nothing here asks the product anything. A credential speaks for a user in one tenant: a browser's in the one that
is active, a key's in the one it was made in. An expectation is the set of statuses that are right; more than one only
where a document's job runs beside the request.
"""

from collections.abc import Iterable, Iterator
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
    """Of `user`, sent by somebody with a browser or a key."""

    id: str
    user: str
    role: TenantRole
    token: str
    by: "Credential | None" = None
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
    made_with: "Credential | None" = None
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

    def refused_taking(self, role: TenantRole) -> int | None:
        """Owners are changed and removed by owners."""
        return _FORBIDDEN if role == "owner" and self.role != "owner" else None

    def refused_giving(self, role: TenantRole) -> int | None:
        """Nobody gives a role beyond its own; all but `member` come with every scope, so they take a key with all."""
        return _FORBIDDEN if role in beyond(self.role) or (role != "member" and not self.limit >= ALL) else None

    def refused_giving_in(self, project: Project, role: ProjectRole) -> int | None:
        """As `refused_giving`, in a project; a key that is tied to one gives nothing."""
        return None if self.project is None and _OF_ROLE[role] <= self.scopes_in(project) else _FORBIDDEN


def beyond(role: TenantRole | None) -> tuple[TenantRole, ...]:
    """The roles that somebody in `role` gives nobody."""
    if role not in ("owner", "admin"):
        return ("member", "admin", "owner")
    return ("owner",) if role == "admin" else ()


def end_invitations_beyond(tenant: Tenant, user: str) -> None:
    """Those that a user sent and could not send any more."""
    roles = beyond(tenant.roles.get(user))
    for invitation in tenant.invitations.values():
        by = invitation.by
        invitation.open &= by is None or by.user != user or invitation.role not in roles


def end_key(key: Credential, others: Iterable[Credential]) -> list[Credential]:
    """The key, and what was passed on with it: invitations, keys, and theirs. The keys that end."""
    others = list(others)
    key.revoked = True
    for invitation in key.tenant.invitations.values():
        invitation.open &= invitation.by is not key
    made = [other for other in others if other.made_with is key and not other.revoked]
    return [key, *(ended for one in made for ended in end_key(one, others))]


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
