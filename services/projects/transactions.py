"""Transactions for requests that move bytes: several short ones, none open while bytes are on their way."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from shared.outbox import caused_by_request
from shared.telemetry import bind
from shared.tenancy import Database


@dataclass(frozen=True, slots=True)
class Transactions:
    """Begins transactions bound to the tenant of one request."""

    database: Database
    tenant_id: uuid.UUID
    user_id: uuid.UUID | None
    correlation_id: str

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        """One transaction: committed at the end of the block, rolled back on any exception."""
        with bind(tenant_id=self.tenant_id, user_id=self.user_id):
            async with self.database.tenant(self.tenant_id) as session:
                caused_by_request(session, self.correlation_id)
                yield session
