"""What tests of single services have in common."""

import pytest

from tests.support.serving import all_in_step


@pytest.fixture(autouse=True)
async def in_step() -> None:
    """A test begins when the services it finds running have heard of the owners of what they remember."""
    await all_in_step()
