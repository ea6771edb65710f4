"""A few tries of each case; `uv run faults answers --times 1000` makes many."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.faults import answers
from tests.support.system import System, running_system


@pytest.fixture(scope="module")
async def unlimited(folders: Callable[[str], Path]) -> AsyncIterator[System]:
    async with running_system(folders("answers"), extra=answers.SETTINGS) as running:
        yield running


@pytest.mark.parametrize("redis_frozen", [False, True], ids=["as-it-is", "redis-frozen"])
async def test_whoever_was_answered_finds_it_so(unlimited: System, redis_frozen: bool) -> None:
    counts = await answers.try_all(unlimited, list(answers.CASES), 8, redis_frozen=redis_frozen)
    assert [str(count) for count in counts if count.wrong] == []
