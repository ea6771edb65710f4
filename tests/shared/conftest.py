"""The foundation is tested on the notifier's schema, which has every table that all services share.

On a stack of its own: an application that another test keeps running would lead the relay and answer to FLUSHALL.
"""

import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import ClassVar

import pytest

from infra.local.home import Home
from infra.local.stack import Stack
from shared import db
from shared.events.envelope import Event
from shared.settings import DatabaseSettings
from shared.tenancy import Database
from tests.support.identity import IdentityDouble
from tests.support.serving import make_settings
from tests.support.stacks import EnvironmentOf, Migrate, environments_of, migrations_of


class SampleSettings(DatabaseSettings):
    service: ClassVar[str] = "notifier"


class NoteWritten(Event):
    """An event only tests know, on the stream of the schema's own service."""

    type: ClassVar[str] = "notifier.note.written.v1"
    subject_field: ClassVar[str] = "note_id"

    note_id: uuid.UUID


@pytest.fixture(scope="session")
async def stack(folders: Callable[[str], Path]) -> AsyncIterator[Stack]:
    async with Stack(Home(folders("shared")), durable=False, with_oidc=False) as running:
        yield running


@pytest.fixture(scope="session")
def migrated(stack: Stack) -> Migrate:
    return migrations_of(stack)


@pytest.fixture(scope="session")
def service_environment(stack: Stack, tokens: IdentityDouble, migrated: Migrate) -> EnvironmentOf:
    return environments_of(stack, tokens, migrated)


@pytest.fixture
async def settings(service_environment: EnvironmentOf) -> SampleSettings:
    return make_settings(SampleSettings, await service_environment("notifier"))


@pytest.fixture
async def database(settings: SampleSettings) -> AsyncIterator[Database]:
    engines = await db.connect(settings)
    yield Database(engines)
    await engines.dispose()
