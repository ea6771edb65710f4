"""Asking the projects service whether a document exists: tenants share the asking, and every answer is understood."""

import asyncio
import uuid
from collections import Counter
from typing import Any, cast

import aiohttp
import pytest

from services.indexing.documents.owner import DocumentOwner
from shared import service_client
from shared.auth import ServiceTokens
from shared.errors import NotFound, QuarryError, Unavailable
from tests.support.polling import eventually


class Answers:
    """The owner's responses, given when let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.outcome: int | Exception = 200
        self.under_way = Counter[str]()
        self.seen: list[tuple[str, str]] = []

    async def token(self, _audience: str, tenant_id: uuid.UUID) -> str:
        return str(tenant_id)

    async def ask(self, _client: object, method: str, url: str, *, headers: dict[str, str]) -> tuple[int, bytes]:
        self.seen.append((method, url))
        tenant = headers["Authorization"]
        self.under_way[tenant] += 1
        try:
            await self.go.wait()
        finally:
            self.under_way[tenant] -= 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome, b""

    async def number_is(self, expected: int) -> bool:
        return self.under_way.total() == expected


@pytest.fixture
async def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    answers = Answers()
    monkeypatch.setattr(service_client, "ask", answers.ask)
    return answers


@pytest.fixture
def owner(answers: Answers) -> DocumentOwner:
    return DocumentOwner("http://projects/", cast(ServiceTokens, answers), cast(aiohttp.ClientSession, None))


async def test_it_is_asked_for_the_document_and_not_for_its_bytes(answers: Answers, owner: DocumentOwner) -> None:
    answers.go.set()
    tenant, project, document = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    await owner.require(tenant, project, document)
    url = f"http://projects/internal/projects/{project}/documents/{document}/versions/1/content"
    assert answers.seen == [("HEAD", url)]


@pytest.mark.parametrize(
    ("outcome", "error"),
    [(404, NotFound), (403, Unavailable), (500, Unavailable), (TimeoutError(), Unavailable)],
)
async def test_anything_but_yes_is_an_error(
    answers: Answers, owner: DocumentOwner, outcome: Any, error: type[QuarryError]
) -> None:
    answers.outcome = outcome
    answers.go.set()
    with pytest.raises(error):
        await owner.require(uuid.uuid4(), uuid.uuid4(), uuid.uuid4())


async def test_a_tenant_that_asks_much_leaves_others_their_turn(answers: Answers, owner: DocumentOwner) -> None:
    busy, other = uuid.uuid4(), uuid.uuid4()
    flood = [asyncio.create_task(owner.require(busy, busy, uuid.uuid4())) for _ in range(80)]
    await eventually(lambda: answers.number_is(4), within=10)
    one = asyncio.create_task(owner.require(other, other, uuid.uuid4()))
    await eventually(lambda: answers.number_is(5), within=10)
    answers.go.set()
    await one
    outcomes = Counter(type(outcome) for outcome in await asyncio.gather(*flood, return_exceptions=True))
    assert outcomes == {type(None): 68, Unavailable: 12}
