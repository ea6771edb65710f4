"""Writing invalidations into the transaction of the change they follow from."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from shared.events.subscriptions import INVALIDATES

# The lock orders positions as commits are ordered. It is taken last, so that no row is waited for while it is held.
_RECORD: Final = text(
    "WITH ordered AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtext(current_schema() || ' invalidations'))), "
    "added AS (INSERT INTO invalidations (tenant_id, consumers, entry) "
    "SELECT new.tenant_id, string_to_array(new.consumers, ' '), new.entry FROM ordered, unnest("
    "CAST(:tenants AS uuid[]), CAST(:consumers AS text[]), CAST(:entries AS text[])) "
    "AS new (tenant_id, consumers, entry) RETURNING position) "
    "SELECT max(position) AS position, pg_notify(current_schema() || '_invalidations', 'recorded') FROM added"
).execution_options(tenant_guard="inserts only: the policy of Postgres checks the tenant")


_NEWEST: Final = text("SELECT COALESCE(max(position), 0) FROM invalidations").execution_options(
    tenant_guard="a number alone, of the tenant's own rows by the policy of Postgres"
)


@dataclass(frozen=True, slots=True)
class Pending:
    """An invalidation of a transaction under way. `entry` is called once events are written, when ids are known."""

    tenant_id: uuid.UUID
    consumers: frozenset[str]
    entry: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Recorded:
    """The position up to which the `consumers` have to acknowledge."""

    position: int
    consumers: frozenset[str]


def add(session: AsyncSession, pending: Pending) -> None:
    """Have `record` write it at the end of the transaction."""
    session.info.setdefault("invalidations", []).append(pending)


def confirm(session: AsyncSession) -> None:
    """For a response that says something is so already: the request that made it so may still be waiting for holders,
    or have died while it waited."""
    session.info["confirms"] = True


async def record(session: AsyncSession) -> Recorded | None:
    """Write what `add` collected. To be called last in the transaction; None when there is nothing."""
    collected: list[Pending] = session.info.get("invalidations", [])
    if not collected and session.info.get("confirms"):
        return Recorded((await session.execute(_NEWEST)).scalar_one(), frozenset(INVALIDATES))
    if not collected:
        return None
    await session.flush()
    written = await session.execute(
        _RECORD,
        {
            "tenants": [item.tenant_id for item in collected],
            "consumers": [" ".join(sorted(item.consumers)) for item in collected],
            "entries": [item.entry().decode() for item in collected],
        },
    )
    return Recorded(written.one().position, frozenset().union(*(item.consumers for item in collected)))
