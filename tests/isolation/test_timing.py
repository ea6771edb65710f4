"""What exists and is foreign takes as long to refuse as what never existed."""

import os
import random
import re
import uuid
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from infra.local.stack import Stack
from tests.isolation import report
from tests.isolation.attackers import Cast
from tests.isolation.conftest import Victim
from tests.isolation.timing import Ask, compare, compared

# More pairs find smaller differences. Beside all other tests there is time for a hundred, where a difference shows once
# the one is longer in 72 of 100 pairs; `uv run test --isolation` takes four times as many (64 of 100), and
# QUARRY_TEST_TIMING_PAIRS says how many a run of its own is to take.
PAIRS = 100
PAIRS_OF_ISOLATION = 400
ENDPOINTS = {
    "GET /v1/projects/{project_id}": None,
    "GET /v1/projects/{project_id}/documents/{document_id}": None,
    "POST /v1/projects/{project_id}/search": {"query": "anything"},
    "GET /v1/projects/{project_id}/events": None,
}

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
async def outsider(whole: Stack, victim: Victim) -> AsyncIterator[httpx.AsyncClient]:
    """A member of the victim's tenant who has no role in any project."""
    cast = Cast(whole, victim.client, victim.ids["project_id"], victim.other_project)
    async with cast.closing:
        yield (await cast.member("outsider"))[0].client


@pytest.fixture
def pairs(request: pytest.FixtureRequest) -> int:
    usual = PAIRS_OF_ISOLATION if request.config.option.markexpr == "isolation" else PAIRS
    return int(os.environ.get("QUARRY_TEST_TIMING_PAIRS", usual))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_another_tenants_things_take_as_long_as_nothing(
    endpoint: str, victim: Victim, attacker: httpx.AsyncClient, pairs: int
) -> None:
    await _compare(endpoint, victim.ids, attacker, "other tenant's owner, by the clock", pairs)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_project_without_the_member_takes_as_long_as_nothing(
    endpoint: str, victim: Victim, outsider: httpx.AsyncClient, pairs: int
) -> None:
    await _compare(endpoint, victim.ids, outsider, "member without the project, by the clock", pairs)


async def _compare(endpoint: str, ids: dict[str, str], client: httpx.AsyncClient, attacker: str, pairs: int) -> None:
    measured = await compare(
        _asking(client, endpoint, lambda name: ids[name]),
        _asking(client, endpoint, lambda _: str(uuid.uuid4())),
        pairs=pairs,
    )
    print(f"{endpoint}, {attacker}: {measured}")
    assert measured.alike, str(measured)
    report.count("route", endpoint, attacker)


def _asking(client: httpx.AsyncClient, endpoint: str, value_of: Callable[[str], str]) -> Ask:
    method, template = endpoint.split(" ")
    names = re.findall(r"{(\w+)}", template)

    async def ask() -> None:
        path = template.format(**{name: value_of(name) for name in names})
        answer = await client.request(method, path, json=ENDPOINTS[endpoint])
        assert answer.status_code == 404, answer.text

    return ask


def test_half_a_quartile_distance_is_found_and_equality_is_not() -> None:
    """The statistic itself, on noise with a long tail as that of a busy machine."""
    draw = random.Random(4)
    noise = [[5 + draw.lognormvariate(0, 0.6) for _ in range(200)] for _ in range(2)]
    assert compared(*noise).alike
    same = compared(*noise)
    assert not compared([value + same.spread / 2 for value in noise[0]], noise[1]).alike
    assert not compared(noise[0], [value + same.spread / 2 for value in noise[1]]).alike
