"""Tenants as the operator's command makes them, without a process for each: that would take over a second."""

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


async def first_tenant(stack: Stack, name: str, owner_email: str) -> Tenant:
    """A tenant and an API key of its owner; the key replaces that of an earlier call."""
    variables = {key: value for key, value in stack.environment("identity").items() if key.startswith("QUARRY_")}
    engines = await db.connect(make_settings(IdentitySettings, variables))
    try:
        transactions = Transactions(Database(engines), "bootstrap")
        made = await bootstrap(transactions, Wanted(name, owner_email, "dev", keep_key=False))
    finally:
        await engines.dispose()
    assert made.api_key is not None
    return Tenant(str(made.tenant_id), made.api_key)
