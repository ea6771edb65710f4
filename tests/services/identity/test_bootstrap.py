"""The first tenant of an installation, made by the command an operator runs."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from infra.local.home import ROOT
from services.identity.bootstrap import Bootstrapped, Wanted, bootstrap
from shared.auth import ALL_SCOPES
from shared.tenancy import Database
from shared.transactions import Transactions
from tests.services.identity.callers import Caller, Gateway, somebody
from tests.services.identity.conftest import Environment, SignIn

Run = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def wanted() -> Wanted:
    person = somebody()
    return Wanted(tenant=person["name"], owner_email=person["email"], key_name="dev", keep_key=False)


@pytest.fixture
def transactions(database: Database) -> Transactions:
    return Transactions(database, "bootstrap")


def key_of(gateway: Gateway, done: Bootstrapped) -> Caller:
    assert done.api_key is not None
    return Caller(gateway, "api_key", done.api_key)


async def test_the_command_writes_one_line_with_a_key_that_works(environment: Environment, gateway: Gateway) -> None:
    person = somebody()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "services.identity.bootstrap", "--tenant", "dev", "--owner-email", person["email"]),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert out.count(b"\n") == 1
    answer = json.loads(out)
    assert set(answer) == {"tenant_id", "api_key"}
    exchanged = await Caller(gateway, "api_key", answer["api_key"]).exchanged()
    assert exchanged["tenant_id"] == answer["tenant_id"]
    assert len(exchanged["scopes"]) == len(ALL_SCOPES)


async def test_a_missing_setting_stops_the_command_by_name(environment: Environment) -> None:
    variables = {name: value for name, value in environment.items() if "ENCRYPTION_KEY" not in name}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "services.identity.bootstrap", "--tenant", "dev", "--owner-email", "a@example.test"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode != 0
    assert out == b""
    assert b"QUARRY_IDENTITY_ENCRYPTION_KEY" in err


async def test_a_second_run_finds_everything_and_replaces_the_key(
    transactions: Transactions, wanted: Wanted, gateway: Gateway
) -> None:
    first = await bootstrap(transactions, wanted)
    second = await bootstrap(transactions, wanted)
    assert first.tenant_id == second.tenant_id
    assert not await key_of(gateway, first).counts()
    assert len((await key_of(gateway, second).get("/v1/api-keys")).json()["items"]) == 1


async def test_a_key_is_kept_when_asked(transactions: Transactions, wanted: Wanted, gateway: Gateway) -> None:
    keeping = Wanted(wanted.tenant, wanted.owner_email, wanted.key_name, keep_key=True)
    first = await bootstrap(transactions, keeping)
    assert await bootstrap(transactions, keeping) == Bootstrapped(first.tenant_id, None)
    key = key_of(gateway, first)
    assert await key.counts()
    assert (await key.delete(f"/v1/api-keys/{(await key.exchanged())['credential_id']}")).status_code == 204
    assert (await bootstrap(transactions, keeping)).api_key is not None


async def test_two_runs_at_once_make_one_tenant(transactions: Transactions, wanted: Wanted) -> None:
    done = await asyncio.gather(*(bootstrap(transactions, wanted) for _ in range(3)))
    assert len({item.tenant_id for item in done}) == 1


async def test_who_signs_in_with_the_address_is_the_owner(
    transactions: Transactions, wanted: Wanted, sign_in: SignIn
) -> None:
    done = await bootstrap(transactions, wanted)
    browser = await sign_in(email=wanted.owner_email)
    me = await browser.me()
    assert me["tenant"] == {"id": str(done.tenant_id), "name": wanted.tenant, "role": "owner"}
    assert len(me["tenants"]) == 1


async def test_an_unverified_address_is_not_the_owner(
    transactions: Transactions, wanted: Wanted, sign_in: SignIn
) -> None:
    done = await bootstrap(transactions, wanted)
    browser = await sign_in(email=wanted.owner_email, email_verified=False)
    assert str(done.tenant_id) not in [tenant["id"] for tenant in (await browser.me())["tenants"]]
