"""The foundation is tested on the notifier's schema: it has every table that all services share."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import ClassVar

import pytest

from shared import db
from shared.events.envelope import Event
from shared.settings import DatabaseSettings
from shared.tenancy import Database
from tests.support.serving import make_settings


class SampleSettings(DatabaseSettings):
    service: ClassVar[str] = "notifier"


class NoteWritten(Event):
    """An event only tests know, on the stream of the schema's own service."""

    type: ClassVar[str] = "notifier.note.written.v1"
    subject_field: ClassVar[str] = "note_id"

    note_id: uuid.UUID


@pytest.fixture
async def settings(service_environment: Callable[[str], Awaitable[dict[str, str]]]) -> SampleSettings:
    return make_settings(SampleSettings, await service_environment("notifier"))


@pytest.fixture
async def database(settings: SampleSettings) -> AsyncIterator[Database]:
    engines = await db.connect(settings)
    yield Database(engines)
    await engines.dispose()
