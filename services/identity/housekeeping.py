"""Identity's background work: keep the signing keys current in every process, and forget what has ended.

Fails by waiting: while Postgres is down it tries again with backoff; tokens are still signed with the keys in memory.
"""

import asyncio
from datetime import timedelta
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from services.identity.sessions import repository as sessions
from services.identity.sign_in import repository as login_states
from services.identity.tokens import signing_keys
from services.identity.tokens.signing_keys import KeyRing
from shared.resilience import Backoff
from shared.settings import Role
from shared.telemetry import get_logger
from shared.tenancy import Database

EVERY_SECONDS: Final = 30.0
KEEP_ENDED_SESSIONS: Final = timedelta(days=7)
_log = get_logger(__name__)


async def run(database: Database, ring: KeyRing, roles: frozenset[Role], *, every: float = EVERY_SECONDS) -> None:
    """Until cancelled."""
    backoff = Backoff(first=1.0, most=every)
    while True:
        await asyncio.sleep(backoff.next() if backoff.attempts else every)
        try:
            await ring.refresh()
            if Role.JOBS in roles:
                await forget(database)
        except (SQLAlchemyError, OSError) as error:
            backoff.next()
            _log.warning("housekeeping_failed", reason=str(error)[:200])
        else:
            backoff.reset()


async def forget(database: Database) -> None:
    """Delete expired sign-ins, sessions that ended long ago and keys that no verifier can meet."""
    async with database.system() as session:
        await login_states.forget_expired(session)
        await sessions.forget_ended(session, keep=KEEP_ENDED_SESSIONS)
        await signing_keys.forget_outdated(session)
