"""A tenant with one of everything, full of its own canaries, for a fuzzer to work in and its neighbour to look for.

What is `kept` is never handed to a request that would end it: without content, members and credentials nothing could
leak any more, and a long run would find nothing because there is nothing.
"""

import uuid
from dataclasses import dataclass, field
from typing import Final

import httpx

from shared.auth import ALL_SCOPES
from tests.isolation.canaries import canary
from tests.isolation.fuzz.checks import Foreign
from tests.isolation.people import Browser, join, make_key, sign_in, somewhere
from tests.support.polling import eventually
from tests.support.resumable import begin_upload
from tests.support.sse import listening
from tests.support.system import System, create_project, settled, upload

# Members and their roles in the project that is kept.
_MEMBERS: Final = {"admin": None, "editor": "editor", "viewer": "viewer", "outsider": None}
_EXPENDABLE_MEMBERS: Final = 3
_WANDERERS_SESSIONS: Final = 8
# The only parameter of a path that is nobody's own.
_SHARED: Final = "provider"


@dataclass(frozen=True, slots=True)
class Credential:
    """Whom a request speaks for. `weight`: how often. One that `wanders` has tenants of its own making only."""

    name: str
    headers: dict[str, str]
    weight: int = 1
    wanders: bool = False


@dataclass(slots=True)
class Planted:
    """One tenant. Ids by the name of the path parameter; a document and a job are found in their project only."""

    letter: str
    tenant_id: str
    credentials: list[Credential] = field(default_factory=list)
    ids: dict[str, list[str]] = field(default_factory=dict)
    documents: list[tuple[str, str]] = field(default_factory=list)
    jobs: list[tuple[str, str]] = field(default_factory=list)
    gone: dict[str, list[str]] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)

    def as_foreign(self) -> tuple[set[str], set[str]]:
        """Ids and secrets that nobody else may see."""
        known = [*self.ids.items(), *self.gone.items()]
        ids = {value for name, values in known for value in values if name != _SHARED}
        ids |= {value for pair in (*self.documents, *self.jobs) for value in pair}
        return ids, self.secrets


def foreign_to(own: Planted, others: list[Planted]) -> Foreign:
    known = [other.as_foreign() for other in others]
    ids = frozenset().union(*(ids for ids, _ in known))
    return Foreign(own.letter, ids, frozenset().union(*(secrets for _, secrets in known)))


async def plant(system: System, letter: str) -> Planted:
    """A new tenant whose canaries have kinds that begin with `letter`."""
    tenant_id, owner = await system.tenant(canary(f"{letter}tenant") + uuid.uuid4().hex[:6])
    planted = Planted(letter, tenant_id)
    planted.ids["tenant_id"] = [tenant_id]
    planted.ids[_SHARED] = ["dev"]
    await _plant_projects(planted, owner)
    await _plant_members(system, planted, owner)
    await _plant_credentials(planted, owner)
    planted.kept |= {tenant_id, *planted.ids["key_id"]}
    return planted


async def _plant_projects(planted: Planted, owner: httpx.AsyncClient) -> None:
    """One that is kept, with a failure in it, one that is not, and one that is deleted."""
    word = planted.letter
    kept, other, gone = [await create_project(owner, f"{name} {canary(f'{word}project')}") for name in "KOD"]
    described = {"description": canary(f"{word}project"), "metadata": {"note": canary(f"{word}project")}}
    changed = await owner.patch(f"/v1/projects/{kept}", json=described, headers={"If-Match": "*"})
    assert changed.status_code == 200, changed.text
    async with listening(owner, f"/v1/projects/{kept}/events") as live:
        names = [f"{canary(f'{word}document')}{number}.txt" for number in range(4)]
        documents = [
            await upload(owner, kept, name, f"{canary(f'{word}content')} sings {name} and {uuid.uuid4()}.".encode())
            for name in names
        ]
        # What extraction says of a broken file may quote it.
        broken = [
            await upload(
                owner, kept, f"{canary(f'{word}document')}{n}.pdf", f"%PDF-1.7 {n}".encode(), "application/pdf"
            )
            for n in range(3)
        ]
        await live.until(lambda seen: len(seen.of("document.failed")) == len(broken), within=60)
    elsewhere = await upload(owner, other, f"{canary(f'{word}document')}.md", f"# {canary(f'{word}content')}".encode())
    await settled(owner, kept, len(documents) + len(broken))
    letters = (await owner.get(f"/v1/projects/{kept}/dead-letters")).json()["items"]
    for project, document in ((kept, documents.pop()), (kept, broken.pop())):
        deleted = await owner.delete(f"/v1/projects/{project}/documents/{document}")
        assert deleted.status_code == 204, deleted.text
        planted.gone.setdefault("document_id", []).append(document)
    deleted = await owner.delete(f"/v1/projects/{gone}", headers={"If-Match": "*"})
    assert deleted.status_code == 204, deleted.text
    uploads = [
        await begin_upload(owner, kept, f"{canary(f'{word}document')}{n}.md", 64, b"# Not finished") for n in range(3)
    ]
    planted.ids["upload_id"] = [path.rpartition("/")[2] for path in uploads]
    planted.ids["project_id"] = [kept, other]
    planted.gone["project_id"] = [gone]
    planted.documents = [*((kept, document) for document in (*documents, *broken)), (other, elsewhere)]
    planted.jobs = [(kept, str(item["id"])) for item in letters]
    planted.kept |= {kept, *documents, *broken}


async def _plant_members(system: System, planted: Planted, owner: httpx.AsyncClient) -> None:
    me = (await owner.get("/v1/me")).json()
    at_home = await sign_in(system.stack, me["user"]["email"])
    users, sessions = [me["user"]["id"]], [await at_home.session_id()]
    _trust(planted, "owner, session", at_home, 6)
    await at_home.client.aclose()
    for name, role in _MEMBERS.items():
        email = somewhere(canary(f"{planted.letter}member"))
        browser = await sign_in(system.stack, email, name=canary(f"{planted.letter}member"))
        user_id, token = await join(owner, browser, email, "admin" if name == "admin" else "member")
        planted.secrets.add(token)
        users.append(user_id)
        sessions.append(await browser.session_id())
        _trust(planted, f"{name}, session", browser, 1)
        if role is not None:
            path = f"/v1/projects/{planted.ids['project_id'][0]}/members/{user_id}"
            given = await owner.put(path, json={"role": role})
            assert given.status_code == 200, given.text
        await browser.client.aclose()
    planted.kept |= {*sessions, *users}
    for _ in range(_EXPENDABLE_MEMBERS):
        email = somewhere(canary(f"{planted.letter}member"))
        browser = await sign_in(system.stack, email)
        users.append((await join(owner, browser, email, "member"))[0])
        await browser.client.aclose()
    planted.ids["user_id"], planted.ids["session_id"] = users, sessions
    await _plant_a_wanderer(system, planted, owner)


async def _plant_a_wanderer(system: System, planted: Planted, owner: httpx.AsyncClient) -> None:
    """Somebody invited who has not come yet, with many sessions: may end them, and make and delete tenants."""
    email = somewhere(canary(f"{planted.letter}invited"))
    browser = await sign_in(system.stack, email, name=canary(f"{planted.letter}invited"))
    _trust(planted, "wanderer, session", browser, 3, wanders=True)
    planted.kept.add(await browser.session_id())
    await browser.client.aclose()
    for _ in range(_WANDERERS_SESSIONS):
        further = await sign_in(system.stack, email)
        planted.ids["session_id"].append(await further.session_id())
        await further.client.aclose()
    planted.ids["invitation_id"], planted.ids["token"] = [], []
    for address in (email, somewhere(canary(f"{planted.letter}invited"))):
        invited = await owner.post("/v1/invitations", json={"email": address})
        assert invited.status_code == 201, invited.text
        planted.ids["invitation_id"].append(invited.json()["id"])
        planted.ids["token"].append(invited.json()["token"])


async def _plant_credentials(planted: Planted, owner: httpx.AsyncClient) -> None:
    planted.credentials += [
        Credential("owner, key", {"Authorization": owner.headers["Authorization"]}, 16),
        Credential("nobody", {}),
        Credential("invented key", {"Authorization": f"Bearer qk_{'A' * 43}"}),
    ]
    planted.secrets.add(owner.headers["Authorization"].removeprefix("Bearer "))
    me = (await owner.get("/v1/me")).json()
    planted.ids["key_id"] = [me["credential"]["id"]]
    scopes = frozenset({"search", "documents:read", "events:read"})
    limits = {"limited key": {}, "key of one project": {"project_id": planted.ids["project_id"][0]}}
    for name, more in limits.items():
        made = await make_key(owner, canary(f"{planted.letter}key"), scopes, **more)
        planted.ids["key_id"].append(made["id"])
        planted.secrets.add(made["key"])
        planted.credentials.append(Credential(name, {"Authorization": f"Bearer {made['key']}"}))
    ended = await make_key(owner, canary(f"{planted.letter}key"), frozenset(ALL_SCOPES))
    assert (await owner.delete(f"/v1/api-keys/{ended['id']}")).status_code == 204
    planted.gone["key_id"] = [ended["id"]]
    planted.credentials.append(Credential("revoked key", {"Authorization": f"Bearer {ended['key']}"}))

    async def refused() -> bool:
        headers = {"Authorization": f"Bearer {ended['key']}"}
        return (await owner.get("/v1/me", headers=headers)).status_code == 401

    await eventually(refused, within=60)


def _trust(planted: Planted, name: str, browser: Browser, weight: int, *, wanders: bool = False) -> None:
    headers = {key: browser.client.headers[key] for key in ("Cookie", "X-CSRF-Token")}
    planted.credentials.append(Credential(name, headers, weight, wanders))
    planted.secrets |= {*browser.cookies.values(), *browser.spent}
