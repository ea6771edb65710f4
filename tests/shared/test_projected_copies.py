"""Copies that a service keeps of what another one owns: tenants are applied apart."""

import asyncio
import uuid
from typing import cast

import aiohttp
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from shared.auth import ServiceTokens
from shared.background import run_in_background
from shared.delivery import Dispatcher
from shared.errors import Unavailable
from shared.events.envelope import Envelope
from shared.handlers import Handler
from shared.invalidations import projected_copies
from shared.invalidations.holder import Holder, Ownership
from shared.invalidations.projected_copies import Projection, _Applying
from shared.tenancy import Database
from tests.shared.backbone import value_of
from tests.shared.events import NoteWritten
from tests.support.leases import envelope, held
from tests.support.polling import eventually


async def test_what_cannot_be_applied_for_one_tenant_keeps_its_copies_alone_from_use(database: Database) -> None:
    broken, sound = uuid.uuid4(), uuid.uuid4()
    failing = True
    applied: list[uuid.UUID] = []

    async def handle(_session: AsyncSession, _event: NoteWritten, about: Envelope) -> None:
        if failing and about.tenantid == broken:
            raise ValueError("it cannot be applied")
        applied.append(about.tenantid)

    projection, heard = held(), list[bytes]()
    handler = Handler(event=NoteWritten, call=handle, name=f"test.{uuid.uuid4()}")
    applying = _Applying(Dispatcher(database, [handler]), "notifier", "notifier", heard.append, projection._behind)
    first, other, second = (
        envelope(NoteWritten(note_id=uuid.uuid4()), tenant_id) for tenant_id in (broken, sound, broken)
    )

    await applying.apply([first, other])
    await applying.apply([second])

    projection.check(sound)
    with pytest.raises(Unavailable):
        projection.check(broken)
    assert (applied, heard) == ([sound], [other])
    failing = False
    async with run_in_background(applying.catch_up, name="catching up"):
        await eventually(lambda: value_of(not projection._behind))
    projection.check(broken)
    assert (applied, heard) == ([sound, broken, broken], [other, first, second])


async def test_a_late_renewal_is_waited_for_and_a_missing_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    client = cast(aiohttp.ClientSession, None)
    lease = Holder(Ownership("projects", "", "test", durable=True), ServiceTokens("test", "", "", client), client)
    projection = Projection(lease)

    waiting = asyncio.create_task(projection.wait(uuid.uuid4()))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    lease._until = float("inf")
    lease._renewed.set()
    await waiting

    lease._until = float("-inf")
    lease._renewed.clear()
    monkeypatch.setattr(projected_copies, "_RENEWAL_SECONDS", 0.01)
    with pytest.raises(Unavailable):
        await projection.wait(uuid.uuid4())
