"""The login roles of each service, and what they may not do.

| role | for | may |
| --- | --- | --- |
| `<service>_owner` | migrations | owns the schema and every table in it |
| `<service>` | requests, handlers, jobs | what migrations grant it, on the rows of one tenant |
| `<service>_system` | outbox relay, job choice, sign-in | the few tables that migrations grant it, across tenants |

None is superuser, none bypasses Row Level Security, none may create roles, databases or temporary tables, and none
sees the schema of another service.
"""

from collections.abc import Mapping
from enum import StrEnum

from shared.topology import SERVICES

DATABASE = "quarry"


class Access(StrEnum):
    OWNER = "owner"
    RUNTIME = "runtime"
    SYSTEM = "system"


# Limits that hold for every connection of a role, whatever its pool sets. Migrations may run long, but must not queue
# behind a lock: all others would queue behind them. A request that waits for a lock or a statement ends while its
# client still waits for it; `shared.db` gives a silent server a second more. A transaction ends even when its client
# stands still between preparing a statement and running it: Postgres does not count that as idle, and rows stay locked.
_TRANSACTION = "1min"
LIMITS: Mapping[Access, Mapping[str, str]] = {
    Access.OWNER: {
        "statement_timeout": "0",
        "lock_timeout": "10s",
        "idle_in_transaction_session_timeout": "5min",
    },
    Access.RUNTIME: {
        "statement_timeout": "4s",
        "lock_timeout": "1500ms",
        "idle_in_transaction_session_timeout": "30s",
        "transaction_timeout": _TRANSACTION,
    },
    Access.SYSTEM: {
        "statement_timeout": "30s",
        "lock_timeout": "1500ms",
        "idle_in_transaction_session_timeout": "30s",
        "transaction_timeout": _TRANSACTION,
    },
}


def role_name(service: str, access: Access) -> str:
    """`projects`, `projects_system` or `projects_owner`."""
    return service if access is Access.RUNTIME else f"{service}_{access.value}"


def all_roles() -> list[str]:
    return [role_name(service, access) for service in SERVICES for access in Access]
