"""The verified caller of a request, as routers depend on it, and which callers internal routes let in."""

from typing import Annotated, Any

from fastapi import Depends, Request

from shared.auth import Principal, PrincipalKind, TokenVerifier
from shared.errors import Forbidden, Unauthenticated
from shared.lifespan_state import from_lifespan
from shared.service_permissions import Operation

INTERNAL_PATHS = "/internal/"


async def _current_principal(request: Request) -> Principal:
    """The verified caller, from the internal token."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated
    principal = await from_lifespan(request, "verifier", TokenVerifier).verify(token)
    _require_own_routes(principal, request.scope["path"])
    request.scope["state"]["principal"] = principal
    return principal


def _require_own_routes(principal: Principal, path: str) -> None:
    """Services have routes of their own, whatever else their token says; clients have all others.

    Raises:
        Forbidden: the route is for the other kind of caller.
    """
    if (principal.kind is PrincipalKind.SERVICE) is not path.startswith(INTERNAL_PATHS):
        raise Forbidden


CurrentPrincipal = Annotated[Principal, Depends(_current_principal)]


def operation(required: Operation) -> Any:
    """The dependency of an internal route: a service whose token names that operation."""

    async def require(principal: CurrentPrincipal) -> Principal:
        principal.require_operation(required)
        return principal

    require.operation = required  # type: ignore[attr-defined]  # what the catalogue of internal routes reads
    return Depends(require)
