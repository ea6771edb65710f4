"""Many users with tenants and sessions, made by identity's own functions: a browser takes far longer."""

import uuid

from services.identity.credentials import csrf_token
from services.identity.sessions import service as sessions_of
from services.identity.settings import IdentitySettings
from services.identity.tenants import service as tenants_of
from services.identity.users import service as users_of
from shared.transactions import Transactions
from tests.support.browser import CSRF, SESSION
from tests.support.system import Json, System
from tests.support.tenants import identity_settings, identity_transactions


async def signed_in(system: System, *, users: int, tenants: int = 1, sessions: int = 1) -> list[Json]:
    """Users of a running system, each the owner of so many tenants and signed in so many times, in the first of them:
    `{"tenants": [id, ...], "sessions": [{cookie: value, ...}, ...]}`."""
    settings = identity_settings(system.stack)
    async with identity_transactions(settings) as transactions:
        return [await _make(transactions, settings, tenants, sessions) for _ in range(users)]


async def _make(transactions: Transactions, settings: IdentitySettings, tenants: int, sessions: int) -> Json:
    name = f"user-{uuid.uuid4()}"
    async with transactions.system() as session:
        user = await users_of.by_verified_email(session, email=f"{name}@example.test", name=name)
    owned = [
        (await tenants_of.create(transactions, owner_id=user.id, name=f"tenant {number}", settings=settings)).id
        for number in range(tenants)
    ]
    cookies = []
    for _ in range(sessions):
        async with transactions.system() as session:
            opened = await sessions_of.open_session(
                session, user_id=user.id, tenant_id=owned[0], user_agent="", settings=settings
            )
        token = csrf_token(settings.derived_key("csrf"), opened.session_id)
        cookies.append({SESSION: opened.secret, CSRF: token})
    return {"tenants": [str(tenant) for tenant in owned], "sessions": cookies}
