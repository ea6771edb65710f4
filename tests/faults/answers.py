"""A client that was answered sees the effect at once, through every route: cases in which another service has to know.

Every case is prepared first, for all of its tries: documents are indexed and sessions signed in, which takes Redis.
Then all cases run side by side, each in lanes of its own, with Redis at work or frozen. A try makes its change and
looks at once. What it finds besides is often what the next try of its lane begins with: the document that is deleted
next, the project that is restored. So each try knows that there was something to lose, and asks nothing only for that.
"""

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import httpx

from tests.faults.sign_ins import signed_in
from tests.support.browser import Browser
from tests.support.polling import eventually
from tests.support.system import Json, System, all_documents, create_project, upload

_UNLIMITED: Final = "1000000"
# So that neither quotas nor limits are what is found.
SETTINGS: Final = {
    "gateway": {
        "QUARRY_GATEWAY_ANONYMOUS_PER_MINUTE": _UNLIMITED,
        "QUARRY_GATEWAY_TENANT_PER_MINUTE": _UNLIMITED,
        "QUARRY_GATEWAY_USER_PER_MINUTE": _UNLIMITED,
    },
}
_LANES: Final = 3
# Enough to keep two processors busy. More would find a system that says that it cannot answer now.
_AT_ONCE: Final = 6
_SESSIONS: Final = 20  # as many as a user may have

Try = Callable[[], Awaitable[str | None]]
"""Done once: what was seen that should not be, None when all is well."""
Lane = Sequence[Try]
"""Tries of one case, done one after another."""
Prepare = Callable[[System, int], Coroutine[Any, Any, Sequence[Lane]]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Count:
    """How often something was tried, and what was wrong; from the first try to the last it took `seconds`."""

    case: str
    tries: int
    wrong: list[str]
    seconds: float

    def __str__(self) -> str:
        return f"{self.case:<40} {len(self.wrong):>4} of {self.tries} wrong in {self.seconds:.1f} s" + "".join(
            f"\n    {reason}" for reason in self.wrong[:3]
        )


async def try_all(
    system: System,
    cases: Sequence[str],
    times: int,
    *,
    redis_frozen: bool = False,
    say: Callable[[str], None] = lambda _line: None,
) -> list[Count]:
    """Prepare every case `times` times, then do all of them side by side."""
    began = time.monotonic()
    prepared: list[Sequence[Lane]] = await _together(CASES[name](system, times) for name in cases)
    say(f"prepared in {time.monotonic() - began:.0f} s")
    began, turns = time.monotonic(), asyncio.Semaphore(_AT_ONCE)
    async with _frozen(system) if redis_frozen else _as_it_is():
        counts = await _together(_count(name, lanes, turns) for name, lanes in zip(cases, prepared, strict=True))
        say(f"tried in {time.monotonic() - began:.0f} s")
    return counts


async def _count(case: str, lanes: Sequence[Lane], turns: asyncio.Semaphore) -> Count:
    began = time.monotonic()
    wrong = await _together(_wrong(lane, turns) for lane in lanes)
    return Count(case, sum(map(len, lanes)), list(itertools.chain(*wrong)), time.monotonic() - began)


async def _wrong(lane: Lane, turns: asyncio.Semaphore) -> list[str]:
    """What was wrong in a lane. A try that could not be made is wrong as well, and keeps nobody from the others."""
    wrong = []
    for attempt in lane:
        try:
            async with turns:
                seen = await attempt()
        except (AssertionError, httpx.HTTPError) as error:
            seen = f"not tried: {error!r}"
        if seen is not None:
            wrong.append(seen)
    return wrong


async def _together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What each came to, in their order; the first failure ends all."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
    return [task.result() for task in tasks]


def _in_lanes(tries: Sequence[Try]) -> Sequence[Lane]:
    return [tries[lane::_LANES] for lane in range(_LANES)]


def _shares(times: int) -> list[int]:
    """How many tries each lane has."""
    return [times // _LANES + (lane < times % _LANES) for lane in range(min(_LANES, times))]


@asynccontextmanager
async def _frozen(system: System) -> AsyncIterator[None]:
    system.stack.redis.process.freeze()
    try:
        yield
    finally:
        system.stack.redis.process.thaw()


@asynccontextmanager
async def _as_it_is() -> AsyncIterator[None]:
    yield


# --- credentials -----------------------------------------------------------------------------------------------------


def _browser(client: httpx.AsyncClient, cookies: dict[str, str]) -> Browser:
    browser = Browser(client)
    browser.cookies = cookies
    return browser


async def _reads(browser: Browser) -> None:
    answer = await browser.request("GET", "/v1/projects")
    assert answer.status_code == 200, answer.text


async def tenant_switched(system: System, times: int) -> Sequence[Lane]:
    """A project made right after a switch is in the tenant switched to. Lanes are sessions of one user."""
    (user,) = await signed_in(system, users=1, tenants=2, sessions=len(_shares(times)))
    client, homes = await system.client(), user["tenants"]
    browsers = [_browser(client, cookies) for cookies in user["sessions"]]

    def switching(browser: Browser, home: str) -> Try:
        async def attempt() -> str | None:
            switched = await browser.change("POST", f"/v1/tenants/{home}/activate")
            made = await browser.change("POST", "/v1/projects", json={"name": "here"})
            me = await browser.request("GET", "/v1/me")
            assert (switched.status_code, made.status_code) == (200, 201), (switched.text, made.text)
            found = await browser.request("GET", f"/v1/projects/{made.json()['id']}")
            if me.json()["tenant"]["id"] != home:
                return "/v1/me tells of the tenant just left"
            return None if found.status_code == 200 else "the project is elsewhere"

        return attempt

    return [
        [switching(browser, homes[(number + 1) % 2]) for number in range(share)]
        for browser, share in zip(browsers, _shares(times), strict=True)
    ]


async def signed_out(system: System, times: int) -> Sequence[Lane]:
    """Nothing is written after a logout."""
    client = await system.client()
    users = await signed_in(system, users=-(-times // _SESSIONS), sessions=_SESSIONS)
    browsers = [_browser(client, cookies) for user in users for cookies in user["sessions"]][:times]

    def signing_out(browser: Browser) -> Try:
        async def attempt() -> str | None:
            await _reads(browser)
            cookies = dict(browser.cookies)
            answer = await browser.change("POST", "/auth/logout")
            assert answer.status_code == 204, answer.text
            browser.cookies = cookies
            late = await browser.change("POST", "/v1/projects", json={"name": "after"})
            return None if late.status_code == 401 else f"{late.status_code} after a logout"

        return attempt

    return _in_lanes([signing_out(browser) for browser in browsers])


async def key_revoked(system: System, times: int) -> Sequence[Lane]:
    """Nothing is uploaded with a revoked key."""
    _, owner = await system.tenant(f"keys-{uuid.uuid4()}")
    project = await create_project(owner)
    path = f"/v1/projects/{project}/documents"

    async def upload_with(headers: dict[str, str]) -> int:
        answer = await owner.post(
            path, params={"name": "a"}, content=b"a", headers={**headers, "Content-Type": "text/plain"}
        )
        return answer.status_code

    async def attempt(*, first: bool = False) -> str | None:
        scopes = ["documents:read", "documents:write"]
        made = await owner.post("/v1/api-keys", json={"name": "k", "scopes": scopes})
        assert made.status_code == 201, made.text
        key = made.json()
        headers = {"Authorization": f"Bearer {key['key']}"}
        assert (await owner.get(path, params={"limit": 1}, headers=headers)).status_code == 200
        if first:  # such a key is good for uploads; from then on reading says as much, and nothing has to be indexed
            assert await upload_with(headers) == 201
        assert (await owner.delete(f"/v1/api-keys/{key['id']}")).status_code == 204
        late = await upload_with(headers)
        return None if late == 401 else f"{late} with a revoked key"

    return [[lambda: attempt(first=True), *[attempt] * (share - 1)] for share in _shares(times)]


async def tenant_deleted(system: System, times: int) -> Sequence[Lane]:
    """A deleted tenant is worked in no more."""
    users = await signed_in(system, users=times)

    def deleting(browser: Browser, tenant: str) -> Try:
        async def attempt() -> str | None:
            await _reads(browser)
            gone = await browser.change("DELETE", f"/v1/tenants/{tenant}")
            assert gone.status_code == 204, gone.text
            late = await browser.change("POST", "/v1/projects", json={"name": "after"})
            return None if late.status_code == 403 else f"{late.status_code} in a deleted tenant"

        return attempt

    client = await system.client()
    return _in_lanes([deleting(_browser(client, user["sessions"][0]), user["tenants"][0]) for user in users])


# --- documents and projects ------------------------------------------------------------------------------------------


def _word(number: int) -> str:
    return f"marker{number:06d}"


async def document_deleted(system: System, times: int) -> Sequence[Lane]:
    """A deleted document is found by nobody.

    Each document has a word in common with the one that is deleted before it and another with the one after: one search
    misses what is gone, and finds what goes next.
    """
    shares = _shares(times)
    _, owner = await system.tenant(f"library-{uuid.uuid4()}")
    project = await create_project(owner)

    async def found(number: int) -> list[str]:
        return [item["document_id"] for item in await _found(owner, project, _word(number))]

    async def put(number: int) -> str:
        return await upload(owner, project, f"{number}.txt", f"The words: {_word(number)} {_word(number + 1)}".encode())

    def deleting(number: int, document: str, following: str) -> Try:
        async def attempt() -> str | None:
            answer = await owner.delete(f"/v1/projects/{project}/documents/{document}")
            assert answer.status_code == 204, answer.text
            seen = await found(number + 1)
            if document in seen:
                return "found after its deletion"
            return None if seen == [following] else f"{seen} found instead of the document that has the word"

        return attempt

    async def put_all(first: int, share: int) -> list[str]:
        return [await put(number) for number in range(first, first + share + 1)]

    firsts = [lane * (times + 2) for lane in range(len(shares))]
    documents = await _together(put_all(first, share) for first, share in zip(firsts, shares, strict=True))
    await _indexed(owner, project, times + len(shares))

    await _searchable(owner, project)
    assert [await found(first) for first in firsts] == [[lane[0]] for lane in documents]
    return [
        [deleting(first + index, lane[index], lane[index + 1]) for index in range(len(lane) - 1)]
        for first, lane in zip(firsts, documents, strict=True)
    ]


async def document_renamed(system: System, times: int) -> Sequence[Lane]:
    """A renamed document is shown by its new name. A lane has one document."""
    shares = _shares(times)
    _, owner = await system.tenant(f"names-{uuid.uuid4()}")
    project = await create_project(owner)

    def renaming(document: str, lane: int, number: int) -> Try:
        async def attempt() -> str | None:
            name = f"name-{number}.txt"
            answer = await owner.patch(f"/v1/projects/{project}/documents/{document}", json={"name": name})
            assert answer.status_code == 200, answer.text
            shown = [item["document_name"] for item in await _found(owner, project, _word(lane))]
            return None if shown == [name] else f"shown as {shown}"

        return attempt

    documents = [await upload(owner, project, f"{lane}.txt", _word(lane).encode()) for lane in range(len(shares))]
    await _indexed(owner, project, len(shares))
    return [
        [renaming(document, lane, number) for number in range(share)]
        for lane, (document, share) in enumerate(zip(documents, shares, strict=True))
    ]


async def project_deleted_and_restored(system: System, times: int) -> Sequence[Lane]:
    """A deleted project is searched by nobody, a restored one by everybody. A lane has one project."""
    _, owner = await system.tenant(f"projects-{uuid.uuid4()}")

    def deleting(project: str) -> Try:
        restored = True

        async def restore() -> None:
            nonlocal restored
            answer = await owner.post(f"/v1/projects/{project}/restore")
            assert answer.status_code == 200, answer.text
            restored = True

        async def attempt() -> str | None:
            nonlocal restored
            if not restored:  # the try before could not
                await restore()
            restored = False
            gone = await owner.delete(f"/v1/projects/{project}", headers={"If-Match": "*"})
            assert gone.status_code == 204, gone.text
            after = await _searched(owner, project)
            await restore()
            again = await _searched(owner, project)
            return None if (after, again) == (404, 200) else f"{after} once deleted, {again} once restored"

        return attempt

    async def lane(share: int) -> Lane:
        project = await create_project(owner)
        await upload(owner, project, "a.txt", b"The word.")
        await _indexed(owner, project, 1)
        await _searchable(owner, project)
        return [deleting(project)] * share

    return await _together(lane(share) for share in _shares(times))


async def _found(client: httpx.AsyncClient, project: str, word: str) -> list[Json]:
    """What is found. That a busy system cannot say so now tells nothing of documents, and it is asked again."""

    async def answered() -> httpx.Response | None:
        answer = await _search(client, project, word)
        return None if answer.status_code == 503 else answer

    answer = await eventually(answered)
    assert answer is not None
    assert answer.status_code == 200, answer.text
    items: list[Json] = answer.json()["items"]
    return items


async def _searched(client: httpx.AsyncClient, project: str) -> int:
    """The status of one search: a project that is restored is searched at once, and 503 is not good enough."""
    return (await _search(client, project, "word")).status_code


async def _search(client: httpx.AsyncClient, project: str, word: str) -> httpx.Response:
    return await client.post(f"/v1/projects/{project}/search", json={"query": word, "mode": "keyword"})


async def _searchable(client: httpx.AsyncClient, project: str) -> None:
    """Documents may be indexed before their project is known to those who search."""

    async def searched() -> bool:
        return await _searched(client, project) == 200

    await eventually(searched)


async def _indexed(owner: httpx.AsyncClient, project: str, count: int) -> None:
    """Wait until all documents of a project are. They may be many: asks for one of those that wait, then for all."""

    async def done() -> list[Json]:
        for status in ("queued", "indexing"):
            answer = await owner.get(f"/v1/projects/{project}/documents", params={"status": status, "limit": 1})
            assert answer.status_code == 200, answer.text
            if answer.json()["items"]:
                return []
        documents = await all_documents(owner, project)
        return [] if any(document["status"] in ("queued", "indexing") for document in documents) else documents

    documents = await eventually(done, within=60 + count, every=0.5)
    assert [document["status"] for document in documents] == ["indexed"] * count


CASES: Final[dict[str, Prepare]] = {
    "tenant switched": tenant_switched,
    "signed out": signed_out,
    "key revoked": key_revoked,
    "tenant deleted": tenant_deleted,
    "document deleted": document_deleted,
    "document renamed": document_renamed,
    "project deleted and restored": project_deleted_and_restored,
}
