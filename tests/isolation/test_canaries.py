"""Secrets of anybody, and words of the victim's, are in nothing the product leaves behind or tells others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx
import pytest
from redis.asyncio import Redis

from infra.local.stack import Stack
from shared.redis_clients import command_client
from tests.isolation import evidence, report
from tests.isolation.attackers import EVERYTHING, Cast
from tests.isolation.canaries import canary, found_in
from tests.isolation.conftest import Victim
from tests.isolation.expectations import ALL_SCOPES
from tests.isolation.internals import internal_tokens
from tests.support.sse import Transcript, listening
from tests.support.system import upload

# Names and addresses of people, who have a tenant of their own besides, named after them.
OF_PERSONS = frozenset({"member"})

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True, slots=True, repr=False)
class Left:
    """What was left behind by the work of this module, and the secrets that were used in it: not to be printed."""

    secrets: frozenset[str]
    logs: list[str]
    spans: list[str]
    published: list[str]


@pytest.fixture(scope="module")
async def redis(whole: Stack) -> AsyncIterator[Redis]:
    client = command_client(whole.redis.url())
    yield client
    await client.aclose()


@pytest.fixture(scope="module")
async def insiders(whole: Stack, victim: Victim) -> AsyncIterator[Cast]:
    """Whoever is made here belongs to the victim's tenant."""
    cast = Cast(whole, victim.client, victim.ids["project_id"], victim.other_project)
    async with cast.closing:
        yield cast


@pytest.fixture(scope="module")
async def left(whole: Stack, victim: Victim, insiders: Cast, redis: Redis) -> Left:
    """Every kind of credential is made, used, misspelt, put where it does not belong, and ended."""
    with evidence.logs() as lines, evidence.spans() as exporter:
        async with evidence.overheard(redis) as published:
            await _work_with_credentials(whole, victim, insiders)
            await _work_with_words(victim)
        spans = [evidence.text_of(span) for span in exporter.get_finished_spans()]
    files = whole.home.secrets.folder.iterdir()
    stored = {path.read_text(encoding="utf-8") for path in files if path.is_file()}
    secrets = frozenset(secret for secret in {*victim.secrets, *insiders.secrets, *stored} if len(secret) >= 16)
    assert len(secrets) > 30
    assert len(lines) > 20
    assert len(spans) > 20
    return Left(secrets, lines, spans, published)


async def _work_with_credentials(stack: Stack, victim: Victim, insiders: Cast) -> None:
    client, cookies = victim.client, victim.browser
    browser, user_id = await insiders.member("insider", "admin")
    key_client, key_id = await insiders.key(ALL_SCOPES, by=browser.client)
    insiders.secrets |= set((await internal_tokens(stack, _key_of(key_client))).values())
    invited = (await client.post("/v1/invitations", json={"email": f"{canary('invited')}b@example.test"})).json()
    insiders.secrets.add(invited["token"])
    for secret in (_key_of(key_client), invited["token"], *browser.cookies.values()):
        # Where clients put credentials by mistake.
        await client.get("/v1/me", params={"api_key": secret, "access_token": secret})
        await client.get("/v1/projects", params={"cursor": secret})
        await client.get("/v1/me", headers={"Authorization": f"Bearer {secret}x"})
        await client.get("/v1/me", headers={"Authorization": f"Basic {secret}"})
        await client.get("/auth/callback/dev", params={"state": secret, "code": secret})
        await client.post("/v1/projects", json={"name": "x", "password": secret})
    for path in ("accept", "accept/", "Accept", ""):
        await cookies.client.post(f"/v1/invitations/{invited['token']}/{path}".rstrip("/") + ("/" * path.endswith("/")))
    await cookies.client.delete(f"/v1/invitations/{invited['token']}")
    assert (await client.delete(f"/v1/api-keys/{key_id}")).status_code == 204
    assert (await browser.client.post("/auth/logout")).status_code == 204
    assert (await client.delete(f"/v1/members/{user_id}")).status_code == 204


async def _work_with_words(victim: Victim) -> None:
    client, project = victim.client, victim.ids["project_id"]
    path = f"/v1/projects/{project}"
    async with listening(client, f"{path}/events") as live:
        content = f"{canary('content')} hums.".encode()
        await upload(client, project, f"{canary('document')}2.txt", content)
        await upload(client, project, f"{canary('document')}2.pdf", b"%PDF-1.7 " + content, "application/pdf")
        await live.until(lambda seen: seen.of("document.indexed") and seen.of("document.failed"), within=60)
    word = canary("content")
    answers: list[httpx.Response] = [
        await client.post(f"{path}/search", json={"query": word, "facets": ["metadata.note"]}),
        await client.post(f"{path}/search", json={"query": word, "filter": {"field": word, "eq": word}}),
        await client.get(f"{path}/documents", params={"name": word}),
        await client.post(f"{path}/documents", params={"name": f"{word}\x01"}, content=word.encode()),
        await client.post("/v1/projects", content=f'{{"name": "{word}", '.encode()),
        await client.post("/v1/projects", json={"name": word, "metadata": {"deep": [word] * 10_000}}),
    ]
    assert not [answer.text for answer in answers if answer.status_code >= 500]


async def test_no_secret_and_no_word_is_in_the_logs(left: Left) -> None:
    for line in left.logs:
        assert (_secrets_in(line, left.secrets), found_in(line)) == ([], set()), line


async def test_no_secret_and_no_word_is_in_a_trace(left: Left) -> None:
    for span in left.spans:
        assert (_secrets_in(span, left.secrets), found_in(span)) == ([], set()), span


async def test_metrics_name_no_tenant_and_nothing_of_a_tenants(left: Left, whole: Stack, victim: Victim) -> None:
    for service, text in (await evidence.metrics(whole)).items():
        assert "quarry_" in text, service
        assert (_secrets_in(text, left.secrets), found_in(text)) == ([], set()), service
        assert [name for name, value in victim.ids.items() if len(value) > 8 and value in text] == [], service


async def test_no_secret_is_in_a_row_of_any_table(left: Left, whole: Stack) -> None:
    """Outbox, inbox and dead letters among them; what is kept of a secret is a hash."""
    assert await evidence.tables_with(whole, left.secrets) == {}


async def test_the_victims_words_are_in_nobody_elses_rows(left: Left, whole: Stack, victim: Victim) -> None:
    words = [canary(kind) for kind in EVERYTHING - OF_PERSONS]
    assert await evidence.tables_with(whole, words, but_of=victim.ids["tenant_id"]) == {}
    assert await evidence.tables_with(whole, words) != {}


async def test_no_secret_is_in_redis_and_words_are_in_the_victims_events_alone(
    left: Left, victim: Victim, redis: Redis
) -> None:
    seen = 0
    async for key, content in evidence.redis_contents(redis):
        assert _secrets_in(key + content, left.secrets) == [], key
        if found_in(key + content) - OF_PERSONS:
            assert key.startswith("events."), key
            assert f'"tenantid":"{victim.ids["tenant_id"]}"' in content, key
            seen += 1
    assert seen > 0
    # Announcements are streams, which were read above. A channel, once there is one, is to be searched as they are.
    assert left.published == []


async def test_live_streams_of_others_stay_silent_about_the_victim(
    whole: Stack, victim: Victim, insiders: Cast, attacker: httpx.AsyncClient, other: dict[str, str]
) -> None:
    """Everybody listens while the victim works; each then gets a sign of life of its own, so that silence is one."""
    outsider, user_id = await insiders.member("listener")
    await insiders.set_role(user_id, "editor", victim.other_project)
    tied, _ = await insiders.key(ALL_SCOPES, project_id=victim.other_project)
    streams = {
        "other tenant's owner, key": (attacker, "/v1/events"),
        "other tenant's owner, own project": (attacker, f"/v1/projects/{other['project_id']}/events"),
        "member without the project": (outsider.client, "/v1/events"),
        "API key tied to another project": (tied, "/v1/events"),
    }
    async with AsyncExitStack() as stack:
        heard: dict[str, Transcript] = {}
        for name, (client, path) in streams.items():
            heard[name] = await stack.enter_async_context(listening(client, path, last_event_id=0))
        async with listening(victim.client, f"/v1/projects/{victim.ids['project_id']}/events") as own:
            secret = await upload(victim.client, victim.ids["project_id"], f"{canary('document')}3.txt", b"Ssh.")
            await own.until(lambda seen: "document.indexed" in seen.events_of(secret), within=60)
        signs = {
            await upload(attacker, other["project_id"], "sign.txt", b"A sign of life."),
            await upload(victim.client, victim.other_project, "sign.txt", b"A sign of life."),
        }
        await asyncio.gather(
            *(one.until(lambda seen: any(seen.events_of(sign) for sign in signs), within=60) for one in heard.values())
        )
    for name, transcript in heard.items():
        told = repr(transcript.frames)
        assert (found_in(told), secret in told, victim.ids["project_id"] in told) == (set(), False, False), name
        report.count("route", "GET /v1/events", f"{name}, live", len(transcript.frames))


def _key_of(client: httpx.AsyncClient) -> str:
    return client.headers["Authorization"].removeprefix("Bearer ")


def _secrets_in(text: str, secrets: frozenset[str]) -> list[str]:
    return [secret for secret in secrets if secret in text]
