"""Which service may call which operations of which other service. The only such table: identity issues tokens by it,
and every internal route names its operation.

A service exchanges its secret at identity for a token for one audience. The token's scope is the operations of the
caller there, and nothing else: it carries no user, no role and none of a client's scopes. What concerns a tenant needs
a token of that tenant; what concerns the installation (`INSTALLATION_WIDE`) needs one that names no tenant.

Routes. `shared.current_principal` lets services in only at `/internal`, and clients everywhere else. A route under
`/internal` takes `operation(...)` as a dependency; those of identity that take a secret instead, and its public keys,
are the only exceptions, and `tests/isolation/test_service_access.py` holds every service to that.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from shared.topology import BACKENDS, Backend

Audience = Backend


class Operation(StrEnum):
    """What one service asks of another. Named by the owner, the thing and what is done to it."""

    READ_PROJECT_ACCESS = "projects.access.read"
    READ_DOCUMENT_CONTENT = "projects.content.read"
    READ_PROGRESS = "indexing.progress.read"
    FOLLOW_RUNS = "indexing.runs.follow"
    READ_MEMBERSHIPS = "identity.memberships.read"
    READ_AUTHORITY = "identity.authority.read"
    MANAGE_DEAD_LETTERS = "dead_letters.manage"
    HOLD_COPIES = "copies.hold"


# These concern no tenant: a token for them names none, and a token that names one is not valid for them.
INSTALLATION_WIDE: Final = frozenset({Operation.MANAGE_DEAD_LETTERS, Operation.HOLD_COPIES})

Table = Mapping[str, Mapping[str, frozenset[Operation]]]

# The name among identity's service secrets that stands for the people who run the installation, and the subject of
# their tokens, which concern no tenant.
OPERATOR: Final = "operator"

SERVICE_ACCESS: Final[Table] = {
    "gateway": {"identity": frozenset({Operation.HOLD_COPIES})},
    "identity": {"projects": frozenset({Operation.READ_PROJECT_ACCESS})},
    "projects": {"identity": frozenset({Operation.READ_MEMBERSHIPS, Operation.READ_AUTHORITY})},
    "indexing": {
        "projects": frozenset({Operation.READ_PROJECT_ACCESS, Operation.READ_DOCUMENT_CONTENT, Operation.HOLD_COPIES}),
        "identity": frozenset({Operation.READ_AUTHORITY}),
    },
    "notifier": {
        "projects": frozenset({Operation.READ_PROJECT_ACCESS, Operation.HOLD_COPIES}),
        "indexing": frozenset({Operation.READ_PROGRESS, Operation.FOLLOW_RUNS}),
    },
    OPERATOR: {audience: frozenset({Operation.MANAGE_DEAD_LETTERS}) for audience in BACKENDS},
}
"""Caller, audience, operations."""


def operations_of(caller: str, audience: str, *, installation_wide: bool) -> frozenset[Operation]:
    """What `caller` may do at `audience`, for a tenant or for the installation; may be empty."""
    allowed = SERVICE_ACCESS.get(caller, {}).get(audience, frozenset())
    return allowed & INSTALLATION_WIDE if installation_wide else allowed - INSTALLATION_WIDE
