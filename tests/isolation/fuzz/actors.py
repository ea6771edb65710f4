"""The people of the state machine: browsers and keys that ask the product, every answer checked.

A change of access is waited for before anything else is asked: the gateway remembers credentials, and the services that
do not own projects learn of roles by events. It has to take effect within `WINDOW_SECONDS`; how long it took at most is
counted. What this shows of the time in between is that it ends.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import httpx

from tests.isolation.canaries import canary
from tests.isolation.endpoints import ROUTES
from tests.isolation.fuzz.checks import Answer, Foreign, wrong_with
from tests.isolation.fuzz.model import Credential, Tenant
from tests.isolation.fuzz.tally import Tally
from tests.isolation.people import client_at, sign_in_at, somewhere

WINDOW_SECONDS: Final = 5.0
# Of the two tenants; those of the planted ones are others.
LETTERS: Final = "mn"
_PEOPLE: Final = ("founder", "second", "third", "fourth")
_LOOK_SECONDS: Final = 0.03
_ROLES: Final = "SELECT count(*) FROM projects.project_members WHERE tenant_id = $1 AND user_id = $2"
_MOST_OF_A_STREAM: Final = 64 * 1024


class Diverged(AssertionError):
    """The product did what the model does not expect, or an answer is wrong in itself."""


class OtherStatus(Diverged):
    """An answer that is right in itself has not the status the model expects."""


@dataclass(slots=True)
class Person:
    """A user. `home`: the tenant it is made a member of at first, by number."""

    name: str
    email: str
    id: str
    home: int


@dataclass(slots=True)
class Actors:
    """Signed-in people; they outlive the tenants of one program, of which each gets new ones.

    `postgres` is the system's database, for what nobody can be told any more.
    """

    url: str
    foreign: Foreign
    tally: Tally
    postgres: str = ""
    people: dict[str, Person] = field(default_factory=dict)
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict)
    closing: AsyncExitStack = field(default_factory=AsyncExitStack)

    # --- asking ------------------------------------------------------------------------------------------------------

    async def ask(
        self, credential: Credential, method: str, path: str, expected: Iterable[int] | None = None, **more: Any
    ) -> httpx.Response:
        """Ask, and check the answer. Without `expected` any status is right that is no 5xx."""
        answer = await self.clients[credential.name].request(method, path, **more)
        self._check(credential, answer, answer.text, repr((path, more)))
        if expected is not None and answer.status_code not in set(expected):
            raise OtherStatus(
                f"{credential.name} {method} {path} {more}: {answer.status_code} {answer.text[:300]}, not {expected}"
            )
        return answer

    async def stream(self, credential: Credential, path: str, expected: int) -> str:
        """Open an event stream; what it says to one who has missed everything, up to its snapshot."""
        text = ""
        client = self.clients[credential.name]
        async with client.stream("GET", path, headers={"Last-Event-ID": "0"}) as answer:
            if answer.status_code == expected:
                async for chunk in answer.aiter_text():
                    text += chunk
                    if answer.status_code != 200 or "event: snapshot" in text or len(text) > _MOST_OF_A_STREAM:
                        break
        self._check(credential, answer, text, path)
        if answer.status_code != expected:
            raise OtherStatus(f"{credential.name} GET {path}: {answer.status_code}, not {expected}")
        return text

    def _check(self, credential: Credential, answer: httpx.Response, text: str, question: str) -> None:
        self.tally.answered(operation_of(answer.request), answer.status_code)
        seen = Answer(
            answer.request.method, answer.status_code, answer.reason_phrase, answer.headers.multi_items(), text
        )
        foreign = Foreign(credential.tenant.letter, self.foreign.ids, self.foreign.secrets)
        for wrong in wrong_with(seen, foreign, question=question):
            raise Diverged(f"{wrong.check}: {credential.name} {question}: {wrong.what}")

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def effective(self, probe: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until a change of access counts everywhere."""
        began = time.monotonic()
        while not await probe():
            if time.monotonic() - began > WINDOW_SECONDS:
                raise Diverged(f"after {WINDOW_SECONDS:g} s still not: {what}")
            await asyncio.sleep(_LOOK_SECONDS)
        self.tally.slowest_revocation = max(self.tally.slowest_revocation, time.monotonic() - began)

    async def is_without_roles(self, tenant_id: str, user_id: str) -> bool:
        """Whether no project of the tenant has a role for the user."""
        connection = await asyncpg.connect(self.postgres)
        try:
            return not await connection.fetchval(_ROLES, uuid.UUID(tenant_id), uuid.UUID(user_id))
        finally:
            await connection.close()

    async def known_as(self, credential: Credential) -> None:
        """Wait until the gateway knows a credential as the model does."""

        async def known() -> bool:
            answer = await self.ask(credential, "GET", "/v1/me")
            if not credential.counts or answer.status_code != 200:
                return answer.status_code == (200 if credential.counts else 401)
            me = answer.json()
            tenant = credential.tenant.id if credential.role is not None else None
            if ((me["tenant"] or {}).get("id"), frozenset(me["scopes"])) != (tenant, credential.at_most):
                return False
            return await self._known_as_owner(credential)

        await self.effective(known, f"{credential.name} is {credential.role} with {sorted(credential.at_most)}")

    async def _known_as_owner(self, credential: Credential) -> bool:
        """Owners and admins differ in nothing one could read: an owner may invite one."""
        if credential.refused_tenant_wide("members:admin") is not None:
            return True
        body = {"email": somewhere("probe"), "role": "owner"}
        answer = await self.ask(credential, "POST", "/v1/invitations", {201, 403}, json=body)
        if answer.status_code == 201:
            await self.ask(credential, "DELETE", f"/v1/invitations/{answer.json()['id']}", {204})
        return (answer.status_code == 201) == (credential.role == "owner")

    async def sees(self, credential: Credential, project_id: str) -> None:
        """Wait until the services that hear of projects by events let a credential in as the model does."""
        expected = credential.refused_in(project_id, "documents:read") or 200
        stream = credential.refused_in(project_id, "events:read") or 200

        async def seen() -> bool:
            jobs = await self.ask(credential, "GET", f"/v1/projects/{project_id}/jobs")
            if jobs.status_code != expected:
                return False
            try:
                await self.stream(credential, f"/v1/projects/{project_id}/events", stream)
            except OtherStatus:
                return False
            return True

        await self.effective(seen, f"{credential.name} gets {expected} in project {project_id}")

    # --- beginnings --------------------------------------------------------------------------------------------------

    async def gather(self, issuer: str) -> None:
        """Sign everybody in."""

        async def come(name: str, home: int) -> None:
            email = somewhere(f"{name}{home}")
            browser = await sign_in_at(self.url, issuer, email, name=name)
            self.closing.push_async_callback(browser.client.aclose)
            me = (await browser.client.get("/v1/me")).json()
            person = Person(f"{name}{home}", email, me["user"]["id"], home)
            self.people[person.name] = person
            self.clients[person.name] = browser.client

        await asyncio.gather(*(come(name, home) for home in range(len(LETTERS)) for name in _PEOPLE))

    async def found(self, number: int) -> tuple[Tenant, list[Credential]]:
        """A new tenant with its people: an owner, an admin, and members."""
        people = sorted((person for person in self.people.values() if person.home == number), key=_rank)
        founder = self.clients[people[0].name]
        made = await founder.post("/v1/tenants", json={"name": f"tenant {uuid.uuid4().hex[:6]}"})
        assert made.status_code == 201, made.text
        tenant = Tenant(made.json()["id"], LETTERS[number])
        activated = await founder.post(f"/v1/tenants/{tenant.id}/activate")
        assert activated.status_code == 200, activated.text
        tenant.roles[people[0].name] = "owner"
        sessions = [Credential(person.name, person.name, tenant) for person in people]
        await self.known_as(sessions[0])

        async def join(credential: Credential, person: Person) -> None:
            role = tenant.roles[credential.user]
            invited = await founder.post("/v1/invitations", json={"email": person.email, "role": role})
            token = invited.json()["token"]
            for path in (f"/v1/invitations/{token}/accept", f"/v1/tenants/{tenant.id}/activate"):
                answer = await self.clients[person.name].post(path)
                assert answer.status_code == 200, answer.text
            await self.known_as(credential)

        tenant.roles |= {person.name: "member" for person in people[1:]}
        tenant.roles[people[1].name] = "admin"
        await asyncio.gather(*(join(session, self.people[session.user]) for session in sessions[1:]))
        return tenant, sessions

    def hold(self, credential: Credential, key: str) -> None:
        """A client for a new key."""
        self.clients[credential.name] = client_at(self.url, {"Authorization": f"Bearer {key}"})

    async def let_go(self, credentials: Iterable[Credential]) -> None:
        for credential in credentials:
            if credential.is_key:
                await self.clients.pop(credential.name).aclose()


def words(tenant: Tenant, word: str) -> str:
    """A text of a tenant's, with its canary and a word no other text has."""
    return f"{canary(f'{tenant.letter}content')} The word of this text is {word}."


def operation_of(request: httpx.Request) -> str:
    """The operation of the OpenAPI document that a request is."""
    parts = request.url.path.split("/")
    for key in ROUTES:
        method, _, path = key.partition(" ")
        pattern = path.split("/")
        fits = len(pattern) == len(parts) and all(
            one[:1] == "{" or one == part for one, part in zip(pattern, parts, strict=False)
        )
        if method == request.method and fits:
            return key
    return f"{request.method} {request.url.path}"


def _rank(person: Person) -> int:
    return _PEOPLE.index(person.name[:-1])
