"""Identity's background work: keep the signing keys current in every process, and forget what has ended.

Fails by waiting: while Postgres is down it tries again with backoff; tokens are still signed with the keys in memory.
"""

from datetime import timedelta
from typing import Final

from services.identity.sessions import repository as sessions
from services.identity.sign_in import repository as login_states
from services.identity.tokens import signing_keys
from services.identity.tokens.signing_keys import KeyRing
from shared.settings import Role
from shared.tenancy import Database
from shared.work_queue import keep_working

EVERY_SECONDS: Final = 30.0
KEEP_ENDED_SESSIONS: Final = timedelta(days=7)


async def run(database: Database, ring: KeyRing, roles: frozenset[Role], *, every: float = EVERY_SECONDS) -> None:
    """Until cancelled."""

    async def keep_house() -> bool:
        await ring.refresh()
        if Role.JOBS in roles:
            await forget(database)
        return False

    await keep_working(keep_house, name="housekeeping", poll_seconds=every)


async def forget(database: Database) -> None:
    """Delete expired sign-ins, sessions that ended long ago and keys that no verifier can meet."""
    async with database.system() as session:
        await login_states.forget_expired(session)
        await sessions.forget_ended(session, keep=KEEP_ENDED_SESSIONS)
        await signing_keys.forget_outdated(session)
