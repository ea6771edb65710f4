"""Asking the owner of projects about access that has not been heard of."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from sqlalchemy.pool import QueuePool

from shared import project_access, service_client
from shared.auth import ALL_SCOPES, Principal, PrincipalKind, ServiceTokens
from shared.errors import NotFound, Unavailable
from shared.project_access import ProjectDirectory
from shared.tenancy import Database
from tests.support.identity import IdentityDouble
from tests.support.leases import held
from tests.support.polling import eventually

USER = uuid.uuid4()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as client:
        yield client


async def test_who_asks_about_unknown_projects_holds_no_connection_and_leaves_turns_to_others(
    database: Database,
    tokens: IdentityDouble,
    http: aiohttp.ClientSession,
    tenant_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other_id, answered, asked, really = uuid.uuid4(), asyncio.Event(), list[str](), service_client.ask
    pool = database.engines.runtime.pool
    assert isinstance(pool, QueuePool)

    async def ask(client: aiohttp.ClientSession, method: Any, url: str, **asking: Any) -> tuple[int, bytes]:
        if not url.endswith("/access"):
            return await really(client, method, url, **asking)
        asked.append("asked")
        await answered.wait()
        return 404, b""

    monkeypatch.setattr(service_client, "ask", ask)
    monkeypatch.setattr(project_access, "ASKING_SECONDS", 60.0)
    directory = ProjectDirectory("http://owner", ServiceTokens("notifier", "secret", tokens.url, http), http, held())

    async def ensure_known(tenant_id: uuid.UUID) -> None:
        member = Principal(PrincipalKind.SESSION, str(USER), USER, tenant_id, "member", ALL_SCOPES)
        await directory.ensure_known(database, member, tenant_id=tenant_id, project_id=uuid.uuid4())

    most = project_access.ASKED_EACH + project_access.ASKED_WAITING
    flood = [asyncio.create_task(ensure_known(tenant_id)) for _ in range(most)]

    async def settled() -> bool:
        return len(asked) == project_access.ASKED_EACH and directory._asking._waiting == project_access.ASKED_WAITING

    await eventually(settled)
    with pytest.raises(Unavailable):
        await ensure_known(tenant_id)
    other = asyncio.create_task(ensure_known(other_id))

    async def asked_too() -> bool:
        return len(asked) == project_access.ASKED_EACH + 1

    await eventually(asked_too)
    assert pool.checkedout() == 0
    answered.set()
    for task in (*flood, other):
        with pytest.raises(NotFound):
            await task


async def test_who_waits_long_for_a_turn_to_ask_is_told(
    database: Database,
    tokens: IdentityDouble,
    http: aiohttp.ClientSession,
    tenant_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(project_access, "ASKING_SECONDS", 0.01)
    directory = ProjectDirectory("http://owner", ServiceTokens("notifier", "secret", tokens.url, http), http, held())
    member = Principal(PrincipalKind.SESSION, str(USER), USER, tenant_id, "member", ALL_SCOPES)
    for _ in range(project_access.ASKED_EACH):
        await directory._asking.enter(tenant_id)
    with pytest.raises(Unavailable):
        await directory.ensure_known(database, member, tenant_id=tenant_id, project_id=uuid.uuid4())
