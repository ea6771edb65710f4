"""Flows are those of a system of our own, or of the one that `QUARRY_TEST_SYSTEM_URL` names."""

from collections.abc import AsyncIterator

import pytest

from tests.support import remote_system
from tests.support.remote_system import Product


@pytest.fixture(scope="session")
async def remote() -> AsyncIterator[Product]:
    async with remote_system.remote_system() as system:
        yield system


@pytest.fixture(scope="session")
def product(request: pytest.FixtureRequest) -> Product:
    """The system under test, of which no part can be killed."""
    chosen: Product = request.getfixturevalue("remote" if remote_system.is_given() else "system")
    return chosen
