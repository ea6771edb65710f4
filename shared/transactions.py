"""Transactions on behalf of one request: of its tenant, of another one, or of the system role.

Most requests need one, and ask for it in their router (`shared.session_dependencies`). Requests that transfer bytes
take several short ones, none open during the transfer. Requests that span tenants or create one (sign-in, new tenants,
accepted invitations) take one for each tenant and role: they order their steps so that a crash between two of them
leaves a state the next attempt completes.
"""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from shared.outbox import caused_by_request
from shared.resilience import answered_within
from shared.telemetry import bind
from shared.tenancy import Database

# The system role may take long over background work; a request may not.
SYSTEM_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Transactions:
    """Opens transactions of any tenant; events published in them carry the request's id."""

    database: Database
    correlation_id: str

    @asynccontextmanager
    async def system(self) -> AsyncIterator[AsyncSession]:
        async with answered_within(SYSTEM_SECONDS), self.database.system() as session:
            caused_by_request(session, self.correlation_id)
            yield session

    @asynccontextmanager
    async def tenant(self, tenant_id: uuid.UUID, *, within: AsyncSession | None = None) -> AsyncIterator[AsyncSession]:
        async with self.database.tenant(tenant_id, within=within) as session:
            caused_by_request(session, self.correlation_id)
            yield session


@dataclass(frozen=True, slots=True)
class TenantTransactions:
    """Opens transactions of the caller's active tenant."""

    database: Database
    tenant_id: uuid.UUID
    user_id: uuid.UUID | None
    correlation_id: str

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        """One transaction: committed at the end of the block, rolled back on any exception."""
        with bind(tenant_id=self.tenant_id, user_id=self.user_id):
            async with Transactions(self.database, self.correlation_id).tenant(self.tenant_id) as session:
                yield session
