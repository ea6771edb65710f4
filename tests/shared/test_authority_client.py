"""Questions about what a credential allows now, and which of them are put together."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fastapi import FastAPI, Response

from shared import service_client
from shared.auth import ALL_SCOPES, Principal, PrincipalKind, ServiceTokens
from shared.authority_client import Authority
from shared.errors import Unauthenticated, Unavailable
from tests.support.polling import eventually
from tests.support.serving import serve


class Identity:
    """Answers each question when it is let to, with what counts at that moment."""

    def __init__(self) -> None:
        self.counts = True
        self.away = False
        self.asked = 0
        self.may_answer = asyncio.Event()

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/internal/service-token")
        async def service_token() -> dict[str, object]:
            return {"token": "service", "expires_in": 300.0}

        @app.post("/internal/authority")
        async def authority(response: Response) -> dict[str, object]:
            self.asked += 1
            counts = self.counts
            await self.may_answer.wait()
            response.status_code = 500 if self.away else 200
            return {"counts": counts, "claims": PRINCIPAL.claims() if counts else None}

        return app


PRINCIPAL = Principal(
    kind=PrincipalKind.API_KEY,
    subject="user",
    user_id=uuid.uuid4(),
    tenant_id=uuid.uuid4(),
    tenant_role="owner",
    limit=ALL_SCOPES,
    credential_id=uuid.uuid4(),
)


@pytest.fixture
def identity() -> Identity:
    return Identity()


@pytest.fixture
async def authority(identity: Identity) -> AsyncIterator[Authority]:
    async with serve(identity.app()) as url, service_client.new_session() as client:
        yield Authority(url, ServiceTokens("projects", "secret", url, client), client)


async def _under_way(identity: Identity, authority: Authority) -> "asyncio.Task[Principal]":
    """A question that identity has read and not answered yet."""
    first = asyncio.create_task(authority.now(PRINCIPAL))

    async def asked() -> bool:
        return identity.asked == 1

    await eventually(asked)
    return first


async def test_what_is_asked_while_a_question_is_under_way_is_put_together(
    identity: Identity, authority: Authority
) -> None:
    first = await _under_way(identity, authority)
    others = [asyncio.create_task(authority.now(PRINCIPAL)) for _ in range(7)]
    await asyncio.sleep(0)
    identity.may_answer.set()
    assert {principal.subject for principal in await asyncio.gather(first, *others)} == {"user"}
    assert identity.asked == 2


async def test_no_answer_is_older_than_its_question(identity: Identity, authority: Authority) -> None:
    first = await _under_way(identity, authority)
    identity.counts = False
    second = asyncio.create_task(authority.now(PRINCIPAL))
    await asyncio.sleep(0)
    identity.may_answer.set()
    assert (await first).subject == "user"
    with pytest.raises(Unauthenticated):
        await second


async def test_who_leaves_takes_no_answer_from_others(identity: Identity, authority: Authority) -> None:
    first = await _under_way(identity, authority)
    left, stays = (asyncio.create_task(authority.now(PRINCIPAL)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    left.cancel()
    identity.may_answer.set()
    assert (await stays).subject == "user"


async def test_who_waits_behind_a_question_that_fails_is_told_so(identity: Identity, authority: Authority) -> None:
    first = await _under_way(identity, authority)
    second = asyncio.create_task(authority.now(PRINCIPAL))
    await asyncio.sleep(0)
    identity.away = True
    identity.may_answer.set()
    for question in (first, second):
        with pytest.raises(Unavailable):
            await question
    assert identity.asked == 1
    identity.away = False
    assert (await authority.now(PRINCIPAL)).subject == "user"


async def test_questions_about_different_credentials_do_not_wait_for_each_other(
    identity: Identity, authority: Authority
) -> None:
    first = await _under_way(identity, authority)
    other = replace(PRINCIPAL, credential_id=uuid.uuid4())
    second = asyncio.create_task(authority.now(other))

    async def both_asked() -> bool:
        return identity.asked == 2

    await eventually(both_asked)
    identity.may_answer.set()
    await asyncio.gather(first, second)
