"""The first user, tenant and API key of an installation.

    python -m services.identity.bootstrap --tenant dev --owner-email dev@example.test

Writes one JSON line to standard output, `{"tenant_id": ..., "api_key": ...}`; logs go to standard error. Repeatable:
the user is found by e-mail address, the tenant by its name among those the user owns, the key by its name. A key cannot
be shown twice: a second run replaces it, or leaves it and prints null with `--keep-key`.

The operator vouches for the address: a user who signs in later with it, verified by a provider, is this user.
"""

import argparse
import asyncio
import contextlib
import sys
import uuid
from dataclasses import dataclass

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.api_keys import repository as api_keys_of
from services.identity.api_keys import service as api_keys
from services.identity.settings import IdentitySettings
from services.identity.tenants import repository as tenants_of
from services.identity.tenants import service as tenants
from services.identity.users import repository as users_of
from services.identity.users import service as users
from shared import db, telemetry
from shared.auth import ALL_SCOPES
from shared.tenancy import Database
from shared.transactions import Transactions


@dataclass(frozen=True, slots=True)
class Wanted:
    tenant: str
    owner_email: str
    key_name: str
    keep_key: bool


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """`api_key` is null when one of that name existed and was to be kept."""

    tenant_id: uuid.UUID
    api_key: str | None


async def bootstrap(transactions: Transactions, wanted: Wanted) -> Bootstrapped:
    """Make what is missing. Two runs at once wait for each other on the user's row."""
    name = wanted.owner_email.partition("@")[0]
    async with transactions.system() as session:
        user_id = (await users.by_verified_email(session, email=wanted.owner_email, name=name)).id
    async with transactions.system() as session:
        await users_of.locked(session, user_id)
        owned = [item for item in await tenants_of.of_user(session, user_id) if item.role == "owner"]
        named = [item.id for item in owned if item.name == wanted.tenant]
        tenant_id = named[0] if named else await tenants_of.new_id(session)
        if not named:
            await tenants.create_as(transactions, tenant_id, owner_id=user_id, name=wanted.tenant, within=session)
        async with transactions.tenant(tenant_id, within=session) as bound:
            return Bootstrapped(tenant_id, await _key(bound, user_id, wanted))


async def _key(session: AsyncSession, user_id: uuid.UUID, wanted: Wanted) -> str | None:
    former = await api_keys_of.by_name(session, wanted.key_name)
    if former and wanted.keep_key:
        return None
    await api_keys.end_all(session, former)
    _row, secret = await api_keys.store(session, user_id=user_id, name=wanted.key_name, scopes=list(ALL_SCOPES))
    return secret


async def _run(settings: IdentitySettings, wanted: Wanted) -> Bootstrapped:
    engines = await db.connect(settings)
    try:
        return await bootstrap(Transactions(Database(engines), "bootstrap"), wanted)
    finally:
        await engines.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m services.identity.bootstrap", description="Create the first user, tenant and API key."
    )
    parser.add_argument("--tenant", required=True, help="name of the tenant")
    parser.add_argument("--owner-email", required=True, help="e-mail address of its owner")
    parser.add_argument("--key-name", default="dev", help="name of the API key")
    parser.add_argument("--keep-key", action="store_true", help="keep an existing key of that name")
    given = parser.parse_args()
    wanted = Wanted(given.tenant, given.owner_email, given.key_name, given.keep_key)
    with contextlib.redirect_stdout(sys.stderr):
        settings = IdentitySettings.load()
        telemetry.configure(settings)
        done = asyncio.run(_run(settings, wanted))
    sys.stdout.write(orjson.dumps(done, default=str, option=orjson.OPT_APPEND_NEWLINE).decode())


if __name__ == "__main__":
    main()
