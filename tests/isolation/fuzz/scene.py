"""Who and what a step of the state machine is about, picked by numbers; and waiting for what it changes."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from tests.isolation.fuzz.actors import LETTERS, Actors
from tests.isolation.fuzz.model import Credential, Document, Project, Tenant, cancelling, retrying

_T = TypeVar("_T")

TAGS: Final = ("right", "right", "right", "any", "stale", "missing", "of the other tenant")
_OWN: Final = 3
_FOUNDERS: Final = 3


@dataclass(slots=True)
class Scene:
    """Two tenants, who may ask, and what was made so far."""

    actors: Actors
    tenants: list[Tenant] = field(default_factory=list)
    credentials: list[Credential] = field(default_factory=list)
    number: int = 0

    # --- picking -----------------------------------------------------------------------------------------------------

    def who(self, number: int) -> Credential:
        """Anybody; founders, who may do most, more often."""
        sessions = self.sessions
        founders = sessions[:: len(sessions) // len(LETTERS)]
        return pick([*self.credentials, *founders * _FOUNDERS], number)

    @property
    def sessions(self) -> list[Credential]:
        return [credential for credential in self.credentials if not credential.is_key]

    def session(self, number: int) -> Credential:
        return pick(self.sessions, number)

    def whom(self, credential: Credential, number: int) -> str:
        """A user's name: mostly one of the tenant's members."""
        return pick([*credential.tenant.roles, *credential.tenant.roles, *self.actors.people], number)

    def in_project(self, who: int, where: int) -> tuple[Credential, str, Project | None]:
        """A credential and a project's id: mostly of its own tenant, else of the other one, or nobody's. The project
        only when it is of its own tenant."""
        credential = self.who(who)
        own = list(credential.tenant.projects) * _OWN
        others = [item for tenant in self.tenants if tenant is not credential.tenant for item in tenant.projects]
        project_id = pick([*own, *others, str(uuid.uuid4())], where)
        return credential, project_id, credential.tenant.projects.get(project_id)

    def document(self, credential: Credential, number: int) -> tuple[str, Document]:
        """The id of a project, and a document that is, or was, in it."""
        known = [
            (project.id, document)
            for tenant in self.tenants
            for _ in range(_OWN if tenant is credential.tenant else 1)
            for project in tenant.projects.values()
            for document in project.documents.values()
        ]
        return pick(known, number)

    def reach(self, who: int, which: int, scope: str, allowed: set[int]) -> tuple[Credential, str, Document, set[int]]:
        """A credential, a document, and what is right when it asks for that with `scope`."""
        credential = self.who(who)
        project_id, document = self.document(credential, which)
        refused = credential.refused_in(project_id, scope)
        if refused is None and document.deleted:
            refused = 404
        return credential, project_id, document, allowed if refused is None else {refused}

    async def ask_document(
        self, who: int, which: int, method: str, verb: str, scope: str, allowed: set[int] | None, **more: Any
    ) -> tuple[int, Document]:
        """Ask for a document; `allowed` None: what its job's state allows."""
        jobs = {"/cancel": cancelling, "/retry": retrying}
        _, candidate = self.document(self.who(who), which)
        right = jobs[verb](candidate) if allowed is None else allowed
        credential, project_id, document, expected = self.reach(who, which, scope, right)
        path = f"/v1/projects/{project_id}/documents/{document.id}{verb}"
        answer = await self.actors.ask(credential, method, path, expected, **more)
        return answer.status_code, document

    def tag(self, credential: Credential, project: Project | None, kind: str) -> str | None:
        """An `If-Match`. Tags of the other tenant's projects look alike, and count as what they say."""
        if kind == "of the other tenant":
            others = [item for tenant in self.tenants if tenant is not credential.tenant for item in tenant.projects]
            other = next(tenant for tenant in self.tenants if tenant is not credential.tenant)
            return other.projects[others[0]].etag if others else '"0"'
        right = project.etag if project is not None else '"1"'
        return {"right": right, "any": "*", "stale": '"0"', "missing": None}[kind]

    def name(self, kind: str) -> str:
        self.number += 1
        return f"{kind} {self.number}"

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def user_known(self, user: str, tenant: Tenant) -> None:
        """Until the gateway knows of a change of somebody's membership."""
        concerned = [one for one in self.credentials if one.user == user and one.tenant is tenant]
        await asyncio.gather(*(self.actors.known_as(one) for one in concerned))

    async def user_sees(self, user: str, tenant: Tenant, project_id: str) -> None:
        concerned = [one for one in self.credentials if one.user == user and one.tenant is tenant]
        await asyncio.gather(*(self.actors.sees(one, project_id) for one in concerned))

    async def seen_by_all(self, tenant: Tenant, project_id: str) -> None:
        concerned = [one for one in self.credentials if one.tenant is tenant]
        await asyncio.gather(*(self.actors.sees(one, project_id) for one in concerned))

    async def gone_from_search(self, project_id: str, document: Document) -> None:
        """Until a deleted document is found by nobody."""
        reader = next((one for one in self.credentials if one.refused_in(project_id, "search") is None), None)
        if reader is None:
            return
        body = {"query": document.word, "mode": "keyword"}

        async def gone() -> bool:
            answer = await self.actors.ask(reader, "POST", f"/v1/projects/{project_id}/search", {200}, json=body)
            return document.id not in answer.text

        await self.actors.effective(gone, f"document {document.id} is gone from search")

    def project_of(self, document: Document) -> str:
        return next(
            project.id
            for tenant in self.tenants
            for project in tenant.projects.values()
            if document.id in project.documents
        )


def pick(known: Sequence[_T], number: int) -> _T:
    return known[number % len(known)]
