"""Transactions of what spans tenants, or makes one: sign-in, new tenants, accepted invitations.

A step that needs another tenant (or the system role) is a transaction of its own; each flow orders its steps so that a
crash between two of them leaves a state the next attempt completes.
"""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from shared.outbox import caused_by_request
from shared.resilience import answered_within
from shared.sessions import SYSTEM_SECONDS
from shared.tenancy import Database


@dataclass(frozen=True, slots=True)
class Transactions:
    """Opens transactions on behalf of one request; events published in them carry its id."""

    database: Database
    correlation_id: str

    @asynccontextmanager
    async def system(self) -> AsyncIterator[AsyncSession]:
        async with answered_within(SYSTEM_SECONDS), self.database.system() as session:
            caused_by_request(session, self.correlation_id)
            yield session

    @asynccontextmanager
    async def tenant(self, tenant_id: uuid.UUID) -> AsyncIterator[AsyncSession]:
        async with self.database.tenant(tenant_id) as session:
            caused_by_request(session, self.correlation_id)
            yield session
