"""Tenant isolation: one transaction, one tenant, two guards.

Guard 1 (application): every ORM statement of a tenant session gets `tenant_id = <bound tenant>` added, whatever it
selects, updates or deletes; rows flushed under another tenant are refused.
Guard 2 (database): `app.tenant_id` is set for the transaction and Row Level Security, forced on every table,
compares it. Inserted rows take their `tenant_id` from the same setting.

Either guard alone suffices; the suite in `tests/isolation` removes one at a time to prove it. A statement that the
first guard cannot see (plain Core or text) is refused in a tenant session unless it says why it is safe:
`.execution_options(tenant_guard="<reason>")`.

A system session (`System`) has neither a tenant nor a criterion. It connects as a role that Postgres lets see only the
tables of `SYSTEM_ACCESS`, each with its reason.
"""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from sqlalchemy import Connection, Table, Uuid, event, inspect, text
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    Mapped,
    ORMExecuteState,
    Session,
    SessionTransaction,
    mapped_column,
    with_loader_criteria,
)

from shared.backpressure import Backlog
from shared.db import Engines, begin_with
from shared.failpoints import failpoint
from shared.invalidations import recording
from shared.invalidations.recording import Recorded

TENANT_SETTING: Final = "app.tenant_id"
INSERTS_ONLY: Final = "inserts only: Postgres stamps the tenant and its policy checks it"
CURRENT_TENANT: Final = "nullif(current_setting('app.tenant_id', true), '')::uuid"

# Every table that is read or written across tenants, and why. Migrations refuse to open any other, and a catalogue
# test compares this list with what Postgres says.
SYSTEM_ACCESS: Final[dict[str, str]] = {
    "identity.outbox": "the relay publishes the events of all tenants in commit order",
    "projects.outbox": "the relay publishes the events of all tenants in commit order",
    "indexing.outbox": "the relay publishes the events of all tenants in commit order",
    "notifier.outbox": "the relay publishes the events of all tenants in commit order",
    "identity.relay_state": "one row for the stream: what Redis must still have; no tenant data",
    "projects.relay_state": "one row for the stream: what Redis must still have; no tenant data",
    "indexing.relay_state": "one row for the stream: what Redis must still have; no tenant data",
    "notifier.relay_state": "one row for the stream: what Redis must still have; no tenant data",
    "identity.invalidations": "holders of copies are told of all tenants' changes",
    "projects.invalidations": "holders of copies are told of all tenants' changes",
    "indexing.invalidations": "holders of copies are told of all tenants' changes",
    "notifier.invalidations": "holders of copies are told of all tenants' changes",
    "identity.copy_leases": "one row for each process that holds copies; no tenant data",
    "projects.copy_leases": "one row for each process that holds copies; no tenant data",
    "indexing.copy_leases": "one row for each process that holds copies; no tenant data",
    "notifier.copy_leases": "one row for each process that holds copies; no tenant data",
    "identity.inbox": "expired rows of all tenants are pruned",
    "projects.inbox": "expired rows of all tenants are pruned",
    "indexing.inbox": "expired rows of all tenants are pruned",
    "notifier.inbox": "expired rows of all tenants are pruned",
    "identity.dead_letters": "an entry that cannot be decoded has no tenant to be filed under",
    "projects.dead_letters": "an entry that cannot be decoded has no tenant to be filed under",
    "indexing.dead_letters": "an entry that cannot be decoded has no tenant to be filed under",
    "notifier.dead_letters": "an entry that cannot be decoded has no tenant to be filed under",
    "identity.tenants": "sign-in and token exchange happen before a tenant is known",
    "identity.users": "a user may belong to several tenants; sign-in happens before one is known",
    "identity.linked_accounts": "sign-in finds the user by provider and subject before a tenant is known",
    "identity.memberships": "a user's tenants are listed before one of them is active",
    "identity.sessions": "a session belongs to a user, not to a tenant, and is found by its hash",
    "identity.login_states": "a sign-in under way has neither user nor tenant",
    "identity.api_keys": "a key is found by its hash before its tenant is known",
    "identity.invitations": "an invitation is found by its token before its tenant is known",
    "identity.signing_keys": "keys that sign internal tokens belong to the installation",
    "projects.blob_deletions": "blobs of deleted documents are removed for all tenants; ids only",
    "projects.exports": "exports of all tenants are made and removed when they expire; ids and counts only",
    "projects.tenant_erasures": "deleted tenants are erased for all tenants; ids only",
    "projects.departures": "roles of who left are removed for all tenants; ids only",
    "projects.upload_expiries": "unfinished uploads of all tenants expire; ids only",
    "notifier.deleted_tenants": "deleted tenants are erased for all tenants; ids only",
    "indexing.generations": "generations of all tenants are built, compared and dropped; no content",
    "indexing.generation_documents": "what generations lack is made for all tenants; ids only",
    "indexing.jobs": "workers choose fairly across tenants and take over expired leases",
    "indexing.run_turns": "workers choose fairly across tenants and take over expired claims; ids only",
    "notifier.run_feeds": "feeds of runs that are over are removed for all tenants; ids only",
    "indexing.vector_changes": "what the vector store is owed is worked off for all tenants; ids only",
}


BEFORE_COMMIT = failpoint("transaction.before_commit", "change written, not committed")
AFTER_COMMIT = failpoint("transaction.after_commit", "change committed, caller not told")
BEFORE_EVENTS = failpoint("outbox.before_commit", "change and events written, not committed")
AFTER_EVENTS = failpoint("outbox.after_commit", "change and events committed; neither caller nor relay told")


class TenantMismatch(RuntimeError):
    """A row was about to be written under a tenant other than the session's. Always a defect."""


class UnguardedStatement(RuntimeError):
    """A statement the tenant criterion cannot reach was sent through a tenant session. Always a defect."""


class TenantOwned:
    """Mixin of every tenant's table. Postgres stamps the column from the transaction's tenant."""

    tenant_id: Mapped[uuid.UUID] = mapped_column(Uuid(as_uuid=True), server_default=text(CURRENT_TENANT), index=False)


class TenantScopedSession(Session):
    """The synchronous session inside each `AsyncSession` of a service; carries guard 1 as event hooks."""


@event.listens_for(TenantScopedSession, "after_begin")
def _bind_tenant(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    tenant_id = session.info.get("tenant_id")
    if isinstance(tenant_id, uuid.UUID) and not transaction.nested:
        begin_bound(connection, tenant_id)


def begin_bound(connection: Connection, tenant_id: uuid.UUID) -> None:
    """Bind the next transaction of `connection` to a tenant, until it ends."""
    begin_with(connection, f"SELECT set_config('{TENANT_SETTING}', '{tenant_id}', true)")


@event.listens_for(TenantScopedSession, "do_orm_execute")
def _add_tenant_criterion(state: ORMExecuteState) -> None:
    tenant_id = state.session.info.get("tenant_id")
    if tenant_id is None:
        return
    if state.is_select or state.is_update or state.is_delete:
        if not state.is_orm_statement:
            if state.execution_options.get("tenant_guard"):
                return
            raise UnguardedStatement("a tenant session takes ORM statements; see shared.tenancy")
        state.statement = state.statement.options(
            with_loader_criteria(TenantOwned, lambda cls: cls.tenant_id == tenant_id, include_aliases=True)
        )
    elif not (state.is_orm_statement or state.execution_options.get("tenant_guard")):
        raise UnguardedStatement("a tenant session takes ORM statements; see shared.tenancy")


@event.listens_for(TenantScopedSession, "before_flush")
def _refuse_foreign_rows(session: Session, _context: Any, _instances: Any) -> None:
    tenant_id = session.info.get("tenant_id")
    if tenant_id is None:
        return
    for row in (*session.new, *session.dirty, *session.deleted):
        if isinstance(row, TenantOwned) and row.tenant_id not in (None, tenant_id):
            raise TenantMismatch(f"{type(row).__name__} belongs to another tenant")


class Database:
    """Hands out transactions. Made in the lifespan; the only thing a service needs to reach its schema."""

    def __init__(self, engines: Engines, *, backlog: Backlog | None = None) -> None:
        self.engines = engines
        self.backlog = backlog or Backlog(limit=sys.maxsize)
        self._runtime = _sessionmaker(engines.runtime)
        self._system = _sessionmaker(engines.system)
        self._leases = _sessionmaker(engines.leases)
        self._after_commit: list[Callable[[], None]] = []
        self._wait: Callable[[Recorded], Awaitable[None]] | None = None

    def on_outbox_commit(self, wake: Callable[[], None]) -> None:
        """Call `wake` after each commit that wrote an outbox row."""
        self._after_commit.append(wake)

    def on_invalidation(self, wait: Callable[[Recorded], Awaitable[None]]) -> None:
        """Await `wait` after each commit of a request that made copies untrue (`shared.invalidations`)."""
        self._wait = wait

    @asynccontextmanager
    async def tenant(self, tenant_id: uuid.UUID, *, within: AsyncSession | None = None) -> AsyncIterator[AsyncSession]:
        """One transaction bound to one tenant: committed at the end of the block, rolled back on any exception.

        Args:
            within: a transaction that goes on after this one; holders of copies are waited for at its end, since no
                request should wait for them while it has rows locked.
        """
        session = self._runtime(info={"tenant_id": tenant_id, "backlog": self.backlog})
        async with self._transaction(session, within):
            yield session

    @asynccontextmanager
    async def system(self) -> AsyncIterator[AsyncSession]:
        """One transaction as the system role. Sees only the tables of `SYSTEM_ACCESS`."""
        async with self._transaction(self._system(info={"backlog": self.backlog})) as session:
            yield session

    @asynccontextmanager
    async def leases(self) -> AsyncIterator[AsyncSession]:
        """As `system`, for work that requests wait for."""
        async with self._transaction(self._leases(info={"backlog": self.backlog})) as session:
            yield session

    @asynccontextmanager
    async def _transaction(
        self, session: AsyncSession, within: AsyncSession | None = None
    ) -> AsyncIterator[AsyncSession]:
        try:
            yield session
            announces = session.info.get("outbox_written", False)
            for write in session.info.get("before_commit", ()):
                await write(session)
            recorded = await recording.record(session)
            await (BEFORE_EVENTS if announces else BEFORE_COMMIT).reach()
            await session.commit()
        except BaseException:
            # A cancelled task does not wait for it: the connection must not keep the transaction.
            await asyncio.shield(asyncio.create_task(session.close()))
            raise
        # It has no connection any more, so there is nothing to wait for.
        session.sync_session.close()
        await (AFTER_EVENTS if announces else AFTER_COMMIT).reach()
        if announces:
            for wake in self._after_commit:
                wake()
        for callback in session.info.get("after_commit", ()):
            callback()
        await self._settle(session, recorded, within)

    async def _settle(self, session: AsyncSession, recorded: Recorded | None, within: AsyncSession | None) -> None:
        unsettled: list[Recorded] = session.info.get("unsettled", [])
        if recorded is not None and session.info.get("for_request"):
            unsettled.append(recorded)
        if within is not None:
            within.info.setdefault("unsettled", []).extend(unsettled)
        elif self._wait is not None:
            for item in unsettled:
                await self._wait(item)


def inserting(model: type[TenantOwned]) -> Insert:
    """An INSERT into a tenant's table past the ORM, which takes four times as long; for statements that run often.

    A conflict is with a row of the same tenant: every key begins with it.
    """
    return insert(cast("Table", inspect(model).local_table)).execution_options(tenant_guard=INSERTS_ONLY)


def before_commit(session: AsyncSession, write: Callable[[AsyncSession], Awaitable[None]]) -> None:
    """Await `write` as one of the last steps of the session's transaction."""
    session.info.setdefault("before_commit", []).append(write)


def after_commit(session: AsyncSession, callback: Callable[[], None]) -> None:
    """Run `callback` once the transaction of `session` has committed; never when it rolls back."""
    session.info.setdefault("after_commit", []).append(callback)


def tenant_of(session: AsyncSession) -> uuid.UUID:
    """The tenant the session is bound to.

    Raises:
        TenantMismatch: the session is a system session; there is no fallback for a tenant id.
    """
    tenant_id = session.info.get("tenant_id")
    if not isinstance(tenant_id, uuid.UUID):
        raise TenantMismatch("this session is bound to no tenant")
    return tenant_id


def backlog_of(session: AsyncSession) -> Backlog:
    """The backlog of the outbox the session writes to."""
    backlog: Backlog = session.info["backlog"]
    return backlog


def _sessionmaker(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine, expire_on_commit=False, autoflush=True, sync_session_class=TenantScopedSession)
