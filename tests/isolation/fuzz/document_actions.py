"""What people do with documents: upload, change, delete, stop, repeat, search, follow."""

import uuid
from typing import Final

from tests.isolation.fuzz.actors import Diverged, words
from tests.isolation.fuzz.model import Credential, Document, outcomes
from tests.isolation.fuzz.scene import Scene
from tests.support.polling import eventually

_SETTLED: Final = ("indexed", "failed", "cancelled")
_SETTLE_SECONDS: Final = 60.0
_MOST_DOCUMENTS: Final = 25


class DocumentActions(Scene):
    """Each action is about whom and what its numbers pick."""

    async def upload(self, who: int, where: int, *, broken: bool) -> None:
        credential, project_id, _ = self.in_project(who, where)
        documents = [one for tenant in self.tenants for item in tenant.projects.values() for one in item.documents]
        if len(documents) < _MOST_DOCUMENTS:
            await self.upload_as(credential, project_id, broken=broken)

    async def upload_as(self, credential: Credential, project_id: str, *, broken: bool) -> None:
        word = f"w{uuid.uuid4().hex[:12]}"
        text = words(credential.tenant, word)
        refused = credential.refused_in(project_id, "documents:write")
        answer = await self.actors.ask(
            credential,
            "POST",
            f"/v1/projects/{project_id}/documents",
            {refused or 201},
            params={"name": f"{word}.pdf" if broken else f"{word}.txt"},
            content=f"%PDF-1.7 {text}" if broken else text,
            headers={"Content-Type": "application/pdf" if broken else "text/plain"},
        )
        if refused is None:
            made = Document(answer.json()["id"], word, broken)
            credential.tenant.projects[project_id].documents[made.id] = made

    async def get_document(self, who: int, which: int) -> None:
        await self.ask_document(who, which, "GET", "", "documents:read", {200})

    async def content_document(self, who: int, which: int) -> None:
        credential, project_id, document, expected = self.reach(who, which, "documents:read", {200})
        path = f"/v1/projects/{project_id}/documents/{document.id}/content"
        answer = await self.actors.ask(credential, "GET", path, expected)
        if answer.status_code == 200 and document.word not in answer.text:
            raise Diverged(f"document {document.id} has other content: {answer.text[:100]}")

    async def chunks_document(self, who: int, which: int) -> None:
        credential, project_id, document, expected = self.reach(who, which, "documents:read", {200})
        path = f"/v1/projects/{project_id}/documents/{document.id}/chunks"
        answer = await self.actors.ask(credential, "GET", path, expected)
        if answer.status_code == 200 and document.settled == "indexed" and document.word not in answer.text:
            raise Diverged(f"document {document.id} has other passages: {answer.text[:100]}")

    async def similar_document(self, who: int, which: int) -> None:
        right = {200} if self.document(self.who(who), which)[1].settled == "indexed" else {200, 409}
        credential, project_id, document, expected = self.reach(who, which, "search", right)
        path = f"/v1/projects/{project_id}/documents/{document.id}/similar"
        answer = await self.actors.ask(credential, "POST", path, expected, json={"limit": 50})
        if answer.status_code == 200:
            others = {one.id for one in credential.tenant.projects[project_id].there} - {document.id}
            found = {item["document_id"] for item in answer.json()["items"]}
            if found - others:
                raise Diverged(f"like document {document.id}: {found}, of {others}")

    async def patch_document(self, who: int, which: int) -> None:
        await self.ask_document(who, which, "PATCH", "", "documents:write", {200}, json={"metadata": {"n": which}})

    async def delete_document(self, who: int, which: int) -> None:
        answered, document = await self.ask_document(who, which, "DELETE", "", "documents:write", {204})
        if answered == 204:
            document.deleted = True
            await self.gone_from_search(self.project_of(document), document)

    async def cancel_document(self, who: int, which: int) -> None:
        answered, document = await self.ask_document(who, which, "POST", "/cancel", "documents:write", None)
        if answered == 202:
            document.cancelled = True

    async def retry_document(self, who: int, which: int) -> None:
        answered, document = await self.ask_document(who, which, "POST", "/retry", "documents:write", None)
        if answered == 202:
            document.settled = None

    async def search(self, who: int, where: int, which: int, mode: str) -> None:
        """By the word of some document, of whatever project and tenant: only what is in the project is found."""
        credential, project_id, project = self.in_project(who, where)
        _, sought = self.document(credential, which)
        expected = credential.refused_in(project_id, "search")
        answer = await self.actors.ask(
            credential,
            "POST",
            f"/v1/projects/{project_id}/search",
            {expected or 200},
            json={"query": sought.word, "mode": mode, "explain": True, "group_by": "document" if which % 2 else None},
        )
        if expected is not None or project is None:
            return
        found = {item["document_id"] for item in answer.json()["items"]}
        if found - {document.id for document in project.there}:
            raise Diverged(f"found in project {project.id}: {found}, which has {project.there}")
        there = sought in project.there and sought.settled == "indexed"
        if there and mode == "keyword" and sought.id not in found:
            raise Diverged(f"not found by its word: {sought}")

    async def follow(self, who: int, where: int) -> None:
        credential, project_id, _ = self.in_project(who, where)
        expected = credential.refused_in(project_id, "events:read")
        text = await self.actors.stream(credential, f"/v1/projects/{project_id}/events", expected or 200)
        foreign = [item for tenant in self.tenants if tenant is not credential.tenant for item in tenant.projects]
        if [item for item in foreign if item in text and item != project_id]:
            raise Diverged(f"events of {project_id} name another tenant's project: {text[:500]}")
        if expected is None and f'"project_id":"{project_id}"' not in text:
            raise Diverged(f"events of {project_id} are about something else: {text[:500]}")

    @property
    def unsettled(self) -> bool:
        projects = [project for tenant in self.tenants for project in tenant.projects.values()]
        return any(document.settled is None for project in projects for document in project.there)

    async def settle(self) -> None:
        """Wait until no job runs; then every document has an outcome it may have."""
        for project in [project for tenant in self.tenants for project in tenant.projects.values()]:
            readers = [one for one in self.credentials if one.refused_in(project.id, "documents:read") is None]
            for document in project.there if readers else ():
                await self._settle(readers[0], project.id, document)

    async def _settle(self, reader: Credential, project_id: str, document: Document) -> None:
        path = f"/v1/projects/{project_id}/documents/{document.id}"

        async def status() -> str:
            found = (await self.actors.ask(reader, "GET", path, {200})).json()["status"]
            return str(found) if found in _SETTLED else ""

        document.settled = await eventually(status, within=_SETTLE_SECONDS, every=0.05)
        if document.settled not in outcomes(document):
            raise Diverged(f"{document} is not one of {outcomes(document)}")
