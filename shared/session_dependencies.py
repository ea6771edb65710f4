"""One request, one transaction: the sessions that routers depend on, and the response when Postgres is down.

A transaction is committed before its response is sent: the dependencies have function scope.
"""

import uuid
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from shared.auth import Principal
from shared.current_principal import CurrentPrincipal
from shared.db import is_outage
from shared.errors import Forbidden, QuarryError, Unavailable
from shared.lifespan_state import from_lifespan
from shared.prepared_statements import TenantReads
from shared.problems import problem_of
from shared.request_context import loggable_path, request_id_of
from shared.telemetry import get_logger
from shared.tenancy import Database
from shared.transactions import TenantTransactions, Transactions

_log = get_logger(__name__)


def _database(request: Request) -> Database:
    return from_lifespan(request, "database", Database)


async def _transactions(request: Request) -> Transactions:
    return _transactions_of(request)


def _transactions_of(request: Request) -> Transactions:
    return Transactions(_database(request), request_id_of(request))


async def _caller_transactions(request: Request, principal: CurrentPrincipal) -> TenantTransactions:
    return TenantTransactions(_database(request), _active_tenant(principal), principal.user_id, request_id_of(request))


def _active_tenant(principal: Principal) -> uuid.UUID:
    if principal.tenant_id is None:
        raise Forbidden("Choose an active tenant first.")
    return principal.tenant_id


async def _tenant_reads(request: Request, principal: CurrentPrincipal) -> TenantReads:
    return TenantReads(_database(request), _active_tenant(principal))


async def _tenant_session(request: Request, principal: CurrentPrincipal) -> AsyncIterator[AsyncSession]:
    """One transaction bound to the caller's active tenant."""
    transactions = await _caller_transactions(request, principal)
    async with transactions.begin() as session:
        yield session


async def _system_session(request: Request) -> AsyncIterator[AsyncSession]:
    """One transaction of the system role, for what happens before a tenant is known."""
    async with _transactions_of(request).system() as session:
        yield session


AnyTransactions = Annotated[Transactions, Depends(_transactions)]
CallerTransactions = Annotated[TenantTransactions, Depends(_caller_transactions)]
CallerReads = Annotated[TenantReads, Depends(_tenant_reads)]
TenantSession = Annotated[AsyncSession, Depends(_tenant_session, scope="function")]
SystemSession = Annotated[AsyncSession, Depends(_system_session, scope="function")]


async def _on_database_error(request: Request, error: Exception) -> Response:
    """Postgres down, too slow or out of connections is a 503 that says when to come back, never a 500."""
    if isinstance(error, DBAPIError) and not is_outage(error):
        _log.error("request_crashed", path=loggable_path(request.scope["path"]), exc_info=error)
        return problem_of(request, QuarryError())
    _log.warning("database_unavailable", path=loggable_path(request.scope["path"]), reason=str(error)[:200])
    return problem_of(request, Unavailable(retry_after=2))


def install_database_problems(app: FastAPI) -> None:
    """Render what goes wrong with Postgres, beside `shared.problems.install_problem_documents`."""
    app.add_exception_handler(DBAPIError, _on_database_error)
    app.add_exception_handler(PoolTimeoutError, _on_database_error)
    app.add_exception_handler(ConnectionError, _on_database_error)
