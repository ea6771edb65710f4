"""Tenants as the operator's command makes them, without a process for each: that would take over a second."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from infra.local.stack import Stack
from services.identity.bootstrap import Wanted, bootstrap
from services.identity.settings import IdentitySettings
from shared import db
from shared.tenancy import Database
from shared.transactions import Transactions
from tests.support.serving import make_settings


class Tenant(NamedTuple):
    tenant_id: str
    api_key: str


def identity_settings(stack: Stack) -> IdentitySettings:
    variables = {key: value for key, value in stack.environment("identity").items() if key.startswith("QUARRY_")}
    return make_settings(IdentitySettings, variables)


@asynccontextmanager
async def identity_transactions(settings: IdentitySettings) -> AsyncIterator[Transactions]:
    """Of identity's database, for its own functions called here."""
    engines = await db.connect(settings)
    try:
        yield Transactions(Database(engines), "tests")
    finally:
        await engines.dispose()


async def first_tenant(stack: Stack, name: str, owner_email: str) -> Tenant:
    """A tenant and an API key of its owner; the key replaces that of an earlier call."""
    async with identity_transactions(identity_settings(stack)) as transactions:
        made = await bootstrap(transactions, Wanted(name, owner_email, "dev", keep_key=False))
    assert made.api_key is not None
    return Tenant(str(made.tenant_id), made.api_key)
