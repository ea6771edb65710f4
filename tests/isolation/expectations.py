"""What each attacker must be told at each route, restated from the public API and not read from the code.

401 without a credential that counts; 404, as for what never existed, where the caller may not know of the thing; 403
only where it legitimately knows of the thing, or where the answer is the same whatever the thing is.
"""

from dataclasses import dataclass, field

from tests.isolation.endpoints import Operation, Route, Who

_VIEWER = frozenset({"projects:read", "documents:read", "search", "events:read"})
_EDITOR = _VIEWER | {"documents:write"}
_OWNER = _EDITOR | {"projects:write", "members:admin"}
ALL_SCOPES = _OWNER | {"keys:admin", "webhooks:admin", "audit:read", "tenant:admin"}
ROLE_SCOPES = {"viewer": _VIEWER, "editor": _EDITOR, "owner": _OWNER}


@dataclass(frozen=True, slots=True)
class Standing:
    """Where somebody stands towards the victim.

    Attributes:
        counts: the credential is one, and neither expired nor revoked.
        tenant: the active tenant: the victim's, another one, or none.
        role: in the active tenant.
        in_project: the role in the victim's project.
        limit: what the credential may do at most.
        tied: the credential is limited to another project of the tenant.
        signed_in: a browser session, not a key.
    """

    counts: bool = True
    tenant: str | None = "other"
    role: str | None = "owner"
    in_project: str | None = None
    limit: frozenset[str] = ALL_SCOPES
    tied: bool = False
    signed_in: bool = False

    @property
    def runs_victims_tenant(self) -> bool:
        return self.tenant == "victim" and self.role in ("owner", "admin")

    @property
    def in_victims_project(self) -> frozenset[str]:
        """What it may do in the victim's project; empty when it may not know of it."""
        if self.tenant != "victim" or self.tied:
            return frozenset()
        if self.runs_victims_tenant:
            return self.limit
        return self.limit & ROLE_SCOPES[self.in_project] if self.in_project else frozenset()


@dataclass(frozen=True, slots=True)
class Refusal:
    """`knows` are path parameters whose thing the caller may know of: with another value the answer is a 404."""

    status: int
    code: str
    knows: frozenset[str] = field(default_factory=frozenset)


UNAUTHENTICATED = Refusal(401, "unauthenticated")
FORBIDDEN = Refusal(403, "forbidden")
NOT_FOUND = Refusal(404, "not_found")


def refusal(standing: Standing, operation: Operation, route: Route) -> Refusal | None:
    """How the attacker is refused when it names what is the victim's; None where it may have an answer."""
    if route.who is Who.ANYONE:
        return None
    if not standing.counts:
        return UNAUTHENTICATED
    match route.who:
        case Who.SIGNED_IN:
            found = _of_the_signed_in(standing, operation)
        case Who.PROGRAM:
            found = UNAUTHENTICATED if standing.signed_in else None
        case Who.CALLER:
            found = NOT_FOUND if "tenant_id" in operation.ids and standing.tenant != "victim" else None
        case _ if standing.tenant is None:
            found = FORBIDDEN
        case Who.PROJECT:
            found = _in_project(standing, route)
        case Who.EXPORT:
            found = None if route.scope in standing.in_victims_project else NOT_FOUND
        case Who.READER:
            found = None if route.scope in standing.limit else FORBIDDEN
        case Who.MEMBERS:
            found = FORBIDDEN if route.scope not in standing.limit or standing.tied else None
        case _:
            found = _of_the_tenant(standing, operation, route)
    return found


def _of_the_signed_in(standing: Standing, operation: Operation) -> Refusal | None:
    if not standing.signed_in:
        return FORBIDDEN
    if "tenant_id" in operation.ids and standing.tenant == "victim":
        return None
    return NOT_FOUND if operation.ids else None


def _in_project(standing: Standing, route: Route) -> Refusal | None:
    allowed = standing.in_victims_project
    if not allowed:
        return NOT_FOUND
    return None if route.scope in allowed else Refusal(403, "forbidden", frozenset({"project_id"}))


def _of_the_tenant(standing: Standing, operation: Operation, route: Route) -> Refusal | None:
    if standing.tenant != "victim":
        return NOT_FOUND if operation.ids else None
    enough = standing.role == "owner" or (standing.role == "admin" and route.who is not Who.OWNER)
    if enough and route.scope in standing.limit and not standing.tied:
        return None
    return Refusal(403, "forbidden", frozenset({"tenant_id"} & set(operation.ids)))
