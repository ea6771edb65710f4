"""One client after the other's work: the commands of one worker of a workload, and what their answers mean."""

import asyncio
import hashlib
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import httpx

from tests.faults.ledger import Command, DocumentEntry, Ledger, Outcome, ProjectEntry
from tests.faults.sending import Answer, once, until_known
from tests.support.documents import broken_pdf, note

_T = TypeVar("_T")

_UPLOADED: Final = "projects.document.uploaded.v1"
_WEIGHTS: Final = {
    "upload": 42,
    "upload_broken": 4,
    "rename_document": 14,
    "delete_document": 9,
    "cancel": 8,
    "retry": 6,
    "put_member": 6,
    "remove_member": 3,
    "rename_project": 4,
    "create_project": 2,
    "delete_project": 1,
    "restore_project": 1,
}


@dataclass(slots=True)
class Tenant:
    """A tenant and a client that holds a key of its owner. `members` may have roles in projects; where there are none
    to be had, strangers are tried, and refused."""

    id: uuid.UUID
    client: httpx.AsyncClient
    members: Sequence[uuid.UUID] = ()


@dataclass(slots=True)
class Project:
    """A project as the workers of its tenant share it."""

    entry: ProjectEntry
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def alive(self) -> bool:
        return self.entry.deleted == {False}


class Worker:
    """One client after the other's work: a document belongs to the worker that uploaded it."""

    def __init__(
        self, person: Tenant, ledger: Ledger, projects: list[Project], chance: random.Random, number: int
    ) -> None:
        self._person = person
        self._client = person.client
        self._ledger = ledger
        self._projects = projects
        self._chance = chance
        self._number = number
        self._named = 0
        self._tag = f"{chance.getrandbits(40):010x}"
        self._mine: list[DocumentEntry] = []
        self._steps: dict[str, Callable[[], Awaitable[bool]]] = {
            "upload": self._upload,
            "upload_broken": self._upload_broken,
            "rename_document": self._rename_document,
            "delete_document": self._delete_document,
            "cancel": self._cancel,
            "retry": self._retry,
            "put_member": self._put_member,
            "remove_member": self._remove_member,
            "rename_project": self._rename_project,
            "create_project": self._create_project,
            "delete_project": self._delete_project,
            "restore_project": self._restore_project,
        }

    async def step(self) -> None:
        """One command: the one chance chooses, or the next best that is possible now."""
        kind = self._chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        for choice in (kind, "upload", "create_project"):
            if await self._steps[choice]():
                return

    # --- projects ----------------------------------------------------------------------------------------------------

    async def _create_project(self) -> bool:
        name = self._name("project")
        command = self._command("create_project", name)
        answer = await once(
            lambda: self._client.post("/v1/projects", json={"name": name, "description": "", "metadata": {}})
        )
        self._close(command, answer)
        if command.outcome is Outcome.UNKNOWN:
            self._ledger.uncertain.add((self._person.id, "project", name))
        elif answer.response is not None and command.outcome is Outcome.DONE:
            entry = ProjectEntry(uuid.UUID(answer.response.json()["id"]), self._person.id, {name})
            self._ledger.projects[entry.id] = entry
            self._ledger.expect(entry.id, "projects.project.created.v1", done=True, unanswered=0)
            self._projects.append(Project(entry))
        return True

    async def _rename_project(self) -> bool:
        project = self._some(lambda project: project.alive)
        if project is None:
            return False
        async with project.lock:
            entry, name = project.entry, self._name("renamed")
            command = self._command("rename_project", str(entry.id))

            async def attempt() -> httpx.Response:
                seen = await self._client.get(f"/v1/projects/{entry.id}")
                if seen.status_code != 200 or seen.json()["name"] == name:
                    return seen
                match = {"If-Match": seen.headers["ETag"]}
                return await self._client.patch(f"/v1/projects/{entry.id}", json={"name": name}, headers=match)

            answer = await until_known(attempt)
            self._close(command, answer)
            entry.names = self._after(entry.names, name, answer)
            self._expect(entry.id, "projects.project.updated.v1", answer)
        return True

    async def _delete_project(self) -> bool:
        # The last one of a tenant is kept: there must be work to do.
        alive = [project for project in self._projects if project.alive]
        if len(alive) < 2:
            return False
        project = self._chance.choice(alive)
        async with project.lock:
            entry = project.entry
            command = self._command("delete_project", str(entry.id))

            async def attempt() -> httpx.Response:
                seen = await self._client.get(f"/v1/projects/{entry.id}")
                if seen.status_code != 200:
                    return seen
                return await self._client.delete(f"/v1/projects/{entry.id}", headers={"If-Match": seen.headers["ETag"]})

            answer = await until_known(attempt)
            self._close(command, answer)
            entry.deleted = self._after(entry.deleted, True, answer)
            if answer.status == 404 and answer.unanswered:
                entry.deleted = {True}
            self._expect(entry.id, "projects.project.deleted.v1", answer)
        return True

    async def _restore_project(self) -> bool:
        project = self._some(lambda project: project.entry.deleted == {True})
        if project is None:
            return False
        async with project.lock:
            entry = project.entry
            if entry.deleted != {True}:
                # Restored by another worker while this one waited: a second time would say nothing.
                return False
            command = self._command("restore_project", str(entry.id))
            answer = await until_known(lambda: self._client.post(f"/v1/projects/{entry.id}/restore"))
            self._close(command, answer)
            entry.deleted = self._after(entry.deleted, False, answer)
            self._expect(entry.id, "projects.project.restored.v1", answer)
        return True

    async def _put_member(self) -> bool:
        project = self._some(lambda project: project.alive)
        if project is None:
            return False
        async with project.lock:
            entry = project.entry
            user = self._chance.choice(
                self._person.members or [uuid.UUID(int=self._chance.getrandbits(128), version=4)]
            )
            known = entry.members.get(user, {None})
            role = self._chance.choice([role for role in ("editor", "viewer") if role not in known] or ["owner"])
            command = self._command("put_member", f"{entry.id}/{user}")
            path = f"/v1/projects/{entry.id}/members/{user}"
            answer = await until_known(lambda: self._client.put(path, json={"role": role}))
            self._close(command, answer)
            entry.members[user] = self._after(known, role, answer)
            self._expect(entry.id, "projects.member.changed.v1", answer)
        return True

    async def _remove_member(self) -> bool:
        def has_members(project: Project) -> bool:
            return project.alive and any(None not in roles for roles in project.entry.members.values())

        project = self._some(has_members)
        if project is None:
            return False
        async with project.lock:
            entry = project.entry
            present = [user for user, roles in entry.members.items() if None not in roles]
            if not (project.alive and present):
                return False
            user = self._chance.choice(present)
            command = self._command("remove_member", f"{entry.id}/{user}")
            answer = await until_known(lambda: self._client.delete(f"/v1/projects/{entry.id}/members/{user}"))
            self._close(command, answer)
            entry.members[user] = self._after(entry.members[user], None, answer)
            if answer.status == 404 and answer.unanswered:
                entry.members[user] = {None}
            self._expect(entry.id, "projects.member.changed.v1", answer)
        return True

    # --- documents ---------------------------------------------------------------------------------------------------

    async def _upload(self) -> bool:
        word = f"{self._tag}x{self._named}"
        content = f"The code word is {word}.\n".encode() + note(self._named, size=self._chance.randint(300, 2400))
        return await self._send_document(self._name("note", ".txt"), content, "text/plain", word)

    async def _upload_broken(self) -> bool:
        content = broken_pdf() + self._tag.encode() + str(self._named).encode()
        return await self._send_document(self._name("broken", ".pdf"), content, "application/pdf", "")

    async def _send_document(self, name: str, content: bytes, content_type: str, word: str) -> bool:
        project = self._some(lambda project: project.alive)
        if project is None:
            return False
        command = self._command("upload", name)
        path = f"/v1/projects/{project.entry.id}/documents"
        headers = {"Content-Type": content_type}
        answer = await once(lambda: self._client.post(path, params={"name": name}, content=content, headers=headers))
        self._close(command, answer)
        if command.outcome is Outcome.UNKNOWN:
            self._ledger.uncertain.add((self._person.id, "document", name))
        elif answer.response is not None and command.outcome is Outcome.DONE:
            entry = DocumentEntry(
                id=uuid.UUID(answer.response.json()["id"]),
                tenant_id=self._person.id,
                project_id=project.entry.id,
                sha256=hashlib.sha256(content).hexdigest(),
                names={name},
                word=word,
                readable=bool(word),
                stopped=not word,
            )
            self._ledger.documents[entry.id] = entry
            self._ledger.expect(entry.id, _UPLOADED, done=True, unanswered=0)
            self._mine.append(entry)
        return True

    async def _rename_document(self) -> bool:
        document = self._document()
        if document is None:
            return False
        name = self._name("renamed", ".txt")
        command = self._command("rename_document", str(document.id))
        changes = {"name": name, "metadata": {"round": self._named}}
        answer = await until_known(lambda: self._client.patch(self._path(document), json=changes))
        self._close(command, answer)
        document.names = self._after(document.names, name, answer)
        # Saying the same twice is two changes.
        self._expect(document.id, "projects.document.updated.v1", answer)
        return True

    async def _delete_document(self) -> bool:
        document = self._document()
        if document is None:
            return False
        command = self._command("delete_document", str(document.id))
        answer = await until_known(lambda: self._client.delete(self._path(document)))
        self._close(command, answer)
        document.deleted = self._after(document.deleted, True, answer)
        self._expect(document.id, "projects.document.deleted.v1", answer)
        return True

    async def _cancel(self) -> bool:
        document = self._document(newest=True)
        if document is not None:
            document.stopped = True
        return await self._request("cancel", "projects.document.cancel_requested.v1", document)

    async def _retry(self) -> bool:
        """Of a document that failed or was cancelled, as far as one can see."""
        stopped = [item for item in self._mine if item.stopped and item.deleted == {False}]
        document = self._chance.choice(stopped) if stopped else None
        if document is None or not await self._has_stopped(document):
            return False
        return await self._request("retry", "projects.document.retry_requested.v1", document)

    async def _has_stopped(self, document: DocumentEntry) -> bool:
        try:
            seen = await self._client.get(self._path(document))
        except httpx.HTTPError:
            return False
        return seen.status_code == 200 and seen.json()["status"] in ("failed", "cancelled")

    async def _request(self, kind: str, event_type: str, document: DocumentEntry | None) -> bool:
        if document is None:
            return False
        command = self._command(kind, str(document.id))
        answer = await once(lambda: self._client.post(f"{self._path(document)}/{kind}"))
        self._close(command, answer)
        self._expect(document.id, event_type, answer)
        return True

    # --- entries -----------------------------------------------------------------------------------------------------

    def _command(self, kind: str, subject: str) -> Command:
        command = Command(len(self._ledger.commands) + 1, self._person.id, kind, subject)
        self._ledger.commands.append(command)
        return command

    def _close(self, command: Command, answer: Answer) -> None:
        command.status, command.outcome, command.unanswered = answer.status, answer.outcome, answer.unanswered

    def _after(self, before: set[_T], value: _T, answer: Answer) -> set[_T]:
        if answer.outcome is Outcome.DONE:
            return {value}
        return before | {value} if answer.unanswered else before

    def _expect(self, subject: uuid.UUID, event_type: str, answer: Answer) -> None:
        done = answer.outcome is Outcome.DONE
        self._ledger.expect(subject, event_type, done=done, unanswered=answer.unanswered)

    def _name(self, stem: str, suffix: str = "") -> str:
        self._named += 1
        return f"{stem}-{self._tag}-{self._number}-{self._named}{suffix}"

    def _some(self, wanted: Callable[[Project], bool]) -> Project | None:
        fitting = [project for project in self._projects if wanted(project)]
        return self._chance.choice(fitting) if fitting else None

    def _document(self, *, newest: bool = False) -> DocumentEntry | None:
        alive = {project.entry.id for project in self._projects if project.alive}
        there = [item for item in self._mine if item.deleted == {False} and item.project_id in alive]
        if not there:
            return None
        return there[-1] if newest else self._chance.choice(there)

    def _path(self, document: DocumentEntry) -> str:
        return f"/v1/projects/{document.project_id}/documents/{document.id}"
