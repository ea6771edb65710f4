"""What people do in the state machine: each deed asks, holds the answer against the model, and moves the model on."""

import uuid
from typing import Any, Final, cast

from tests.isolation.fuzz.comparing import compare, same
from tests.isolation.fuzz.crew import LETTERS, Diverged, words
from tests.isolation.fuzz.model import (
    ALL,
    Credential,
    Document,
    Invitation,
    Project,
    ProjectRole,
    TenantRole,
    matched,
    outcomes,
)
from tests.isolation.fuzz.scene import Scene, pick
from tests.support.polling import eventually

ROLES: Final = ("member", "admin", "owner")
TAGS: Final = ("right", "right", "right", "any", "stale", "missing", "of the other tenant")
SCOPES: Final = (
    ALL,
    ALL - {"keys:admin", "members:admin"},
    frozenset({"search"}),
    frozenset({"projects:read", "documents:read", "documents:write"}),
    frozenset({"events:read", "projects:write"}),
)
_SETTLED: Final = ("indexed", "failed", "cancelled")
_SETTLE_SECONDS: Final = 60.0
_MOST_DOCUMENTS: Final = 25


class Deeds(Scene):
    """Each deed is about whom and what its numbers pick."""

    async def begin(self) -> None:
        for number in range(len(LETTERS)):
            tenant, sessions = await self.crew.found(number)
            self.tenants.append(tenant)
            self.credentials += sessions
        for founder in (self.credentials[0], self.credentials[4]):
            for _ in range(2):
                await self._create_project(founder)
            project = next(iter(founder.tenant.projects.values()))
            await self._upload(founder, project.id, broken=False)

    async def end(self) -> None:
        await self.crew.let_go(self.credentials)

    async def compare(self) -> None:
        await compare(self.crew, self.tenants, self.credentials)

    # --- projects ----------------------------------------------------------------------------------------------------

    async def create_project(self, who: int) -> None:
        await self._create_project(self.who(who))

    async def _create_project(self, credential: Credential) -> None:
        name = self.name("project")
        refused = credential.refused_tenant_wide("projects:write")
        answer = await self.crew.ask(credential, "POST", "/v1/projects", {refused or 201}, json={"name": name})
        if refused is None:
            made = Project(answer.json()["id"], name, {credential.user: "owner"})
            credential.tenant.projects[made.id] = made
            same(answer.headers["etag"], made.etag, "etag of a new project")

    async def patch_project(self, who: int, where: int, tag: str) -> None:
        credential, project_id, project = self.in_project(who, where)
        name, condition = self.name("renamed"), self.tag(credential, project, tag)
        expected = credential.refused_in(project_id, "projects:write") or (project and matched(condition, project))
        answer = await self.crew.ask(
            credential,
            "PATCH",
            f"/v1/projects/{project_id}",
            {expected or 200},
            json={"name": name},
            headers={"If-Match": condition} if condition else {},
        )
        if expected is None and project is not None:
            project.name, project.revision = name, project.revision + 1
            same(answer.headers["etag"], project.etag, "etag of a changed project")

    async def delete_project(self, who: int, where: int, tag: str) -> None:
        credential, project_id, project = self.in_project(who, where)
        condition = self.tag(credential, project, tag)
        expected = credential.refused_in(project_id, "projects:write") or (project and matched(condition, project))
        headers = {"If-Match": condition} if condition else {}
        await self.crew.ask(credential, "DELETE", f"/v1/projects/{project_id}", {expected or 204}, headers=headers)
        if expected is None and project is not None:
            project.deleted, project.revision = True, project.revision + 1
            await self.seen_by_all(credential.tenant, project.id)

    async def restore_project(self, who: int, where: int) -> None:
        credential, project_id, project = self.in_project(who, where)
        expected = credential.refused_in(project_id, "projects:write", deleted=True)
        await self.crew.ask(credential, "POST", f"/v1/projects/{project_id}/restore", {expected or 200})
        if expected is None and project is not None and project.deleted:
            project.deleted, project.revision = False, project.revision + 1
            await self.seen_by_all(credential.tenant, project.id)

    async def put_member(self, who: int, where: int, whom: int, role: str) -> None:
        credential, project_id, project = self.in_project(who, where)
        user, given = self.whom(credential, whom), cast(ProjectRole, role)
        expected = credential.refused_in(project_id, "members:admin")
        if expected is None and project and project.roles.get(user) != given and project.is_last_owner(user):
            expected = 409
        path = f"/v1/projects/{project_id}/members/{self.crew.people[user].id}"
        await self.crew.ask(credential, "PUT", path, {expected or 200}, json={"role": role})
        if expected is None and project is not None and project.roles.get(user) != given:
            project.roles[user], project.revision = given, project.revision + 1
            await self.user_sees(user, credential.tenant, project.id)

    async def remove_project_member(self, who: int, where: int, whom: int) -> None:
        credential, project_id, project = self.in_project(who, where)
        user = self.whom(credential, whom)
        expected = credential.refused_in(project_id, "members:admin")
        if expected is None and project is not None:
            expected = 404 if user not in project.roles else 409 if project.is_last_owner(user) else None
        path = f"/v1/projects/{project_id}/members/{self.crew.people[user].id}"
        await self.crew.ask(credential, "DELETE", path, {expected or 204})
        if expected is None and project is not None:
            del project.roles[user]
            project.revision += 1
            await self.user_sees(user, credential.tenant, project.id)

    # --- documents ---------------------------------------------------------------------------------------------------

    async def upload(self, who: int, where: int, *, broken: bool) -> None:
        credential, project_id, _ = self.in_project(who, where)
        documents = [one for tenant in self.tenants for item in tenant.projects.values() for one in item.documents]
        if len(documents) < _MOST_DOCUMENTS:
            await self._upload(credential, project_id, broken=broken)

    async def _upload(self, credential: Credential, project_id: str, *, broken: bool) -> None:
        word = f"w{uuid.uuid4().hex[:12]}"
        text = words(credential.tenant, word)
        refused = credential.refused_in(project_id, "documents:write")
        answer = await self.crew.ask(
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
        answer = await self.crew.ask(credential, "GET", path, expected)
        if answer.status_code == 200 and document.word not in answer.text:
            raise Diverged(f"document {document.id} has other content: {answer.text[:100]}")

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
        answer = await self.crew.ask(
            credential,
            "POST",
            f"/v1/projects/{project_id}/search",
            {expected or 200},
            json={"query": sought.word, "mode": mode},
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
        text = await self.crew.stream(credential, f"/v1/projects/{project_id}/events", expected or 200)
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
            found = (await self.crew.ask(reader, "GET", path, {200})).json()["status"]
            return str(found) if found in _SETTLED else ""

        document.settled = await eventually(status, within=_SETTLE_SECONDS, every=0.05)
        if document.settled not in outcomes(document):
            raise Diverged(f"{document} is not one of {outcomes(document)}")

    # --- tenants -----------------------------------------------------------------------------------------------------

    async def change_role(self, who: int, whom: int, role: str) -> None:
        credential, given = self.who(who), cast(TenantRole, role)
        user = self.whom(credential, whom)
        expected = credential.refused_tenant_wide("members:admin") or self._refused_change(credential, user, given)
        path = f"/v1/members/{self.crew.people[user].id}"
        await self.crew.ask(credential, "PATCH", path, {expected or 200}, json={"role": role})
        if expected is None and credential.tenant.roles[user] != given:
            credential.tenant.roles[user] = given
            await self.user_known(user, credential.tenant)

    def _refused_change(self, credential: Credential, user: str, given: TenantRole | None) -> int | None:
        """Of a member's role by whom one may change roles; None ends the membership."""
        held = credential.tenant.roles.get(user)
        if held is None:
            return 404
        leaving = given is None and user == credential.user
        if not leaving and (status := credential.refused_grant(given, held)) is not None:
            return status
        return 409 if held != given and credential.tenant.is_last_owner(user) else None

    async def remove_member(self, who: int, whom: int) -> None:
        credential = self.who(who)
        user = self.whom(credential, whom)
        own = user == credential.user
        refused = credential.refused_insight() if own else credential.refused_tenant_wide("members:admin")
        expected = refused or self._refused_change(credential, user, None)
        await self.crew.ask(credential, "DELETE", f"/v1/members/{self.crew.people[user].id}", {expected or 204})
        if expected is None:
            tenant = credential.tenant
            del tenant.roles[user]
            for key in self.credentials:
                key.revoked |= key.is_key and key.user == user and key.tenant is tenant
            await self.user_known(user, tenant)

    async def invite(self, who: int, whom: int, role: str) -> None:
        credential, given = self.who(who), cast(TenantRole, role)
        user = self.whom(credential, whom)
        expected = credential.refused_tenant_wide("members:admin") or credential.refused_grant(given)
        body = {"email": self.crew.people[user].email, "role": role}
        answer = await self.crew.ask(credential, "POST", "/v1/invitations", {expected or 201}, json=body)
        if expected is None:
            for earlier in credential.tenant.invitations.values():
                earlier.open &= earlier.user != user
            made = answer.json()
            credential.tenant.invitations[made["id"]] = Invitation(made["id"], user, given, made["token"])

    async def accept(self, who: int, which: int) -> None:
        session = self.session(who)
        known = [(tenant, one) for tenant in self.tenants for one in tenant.invitations.values()]
        tenant, invitation = pick(known, which) if known else (None, Invitation("", "", "member", "x" * 43, open=False))
        if tenant is None or not invitation.open:
            expected = 404
        elif invitation.user != session.user:
            expected = 403
        else:
            expected = 409 if session.user in tenant.roles else 200
        await self.crew.ask(session, "POST", f"/v1/invitations/{invitation.token}/accept", {expected})
        if expected == 200 and tenant is not None:
            invitation.open = False
            tenant.roles[session.user] = invitation.role
            await self.user_known(session.user, tenant)

    async def revoke_invitation(self, who: int, which: int) -> None:
        credential = self.who(who)
        known = [one for tenant in self.tenants for one in tenant.invitations.values()]
        invitation_id = pick(known, which).id if known else str(uuid.uuid4())
        own = credential.tenant.invitations.get(invitation_id)
        expected = credential.refused_tenant_wide("members:admin") or (None if own and own.open else 404)
        await self.crew.ask(credential, "DELETE", f"/v1/invitations/{invitation_id}", {expected or 204})
        if expected is None and own is not None:
            own.open = False

    async def activate(self, who: int, where: int) -> None:
        """Switch a browser to a tenant, which takes belonging to it."""
        session, tenant = self.session(who), self.tenants[where % len(self.tenants)]
        expected = 200 if session.user in tenant.roles else 404
        await self.crew.ask(session, "POST", f"/v1/tenants/{tenant.id}/activate", {expected})
        if expected == 200:
            session.tenant = tenant
            await self.crew.known_as(session)

    async def create_key(self, who: int, scopes: frozenset[str], where: int, *, tied: bool) -> None:
        credential, project_id, _ = self.in_project(who, where)
        expected = credential.refused_tenant_wide("keys:admin") or (None if scopes <= credential.limit else 403)
        body: dict[str, Any] = {"name": self.name("key"), "scopes": sorted(scopes)}
        body |= {"project_id": project_id} if tied else {}
        answer = await self.crew.ask(credential, "POST", "/v1/api-keys", {expected or 201}, json=body)
        if expected is None:
            key = Credential(
                f"{body['name']} of {credential.user}",
                credential.user,
                credential.tenant,
                is_key=True,
                id=answer.json()["id"],
                limit=scopes,
                project=project_id if tied else None,
            )
            self.credentials.append(key)
            self.crew.hold(key, answer.json()["key"])

    async def revoke_key(self, who: int, which: int) -> None:
        credential = self.who(who)
        keys = [one for one in self.credentials if one.is_key]
        key = pick(keys, which) if keys else None
        known = key is not None and key.tenant is credential.tenant and not key.revoked
        expected = credential.refused_tenant_wide("keys:admin") or (None if known else 404)
        await self.crew.ask(credential, "DELETE", f"/v1/api-keys/{key.id if key else uuid.uuid4()}", {expected or 204})
        if expected is None and key is not None:
            key.revoked = True
            await self.crew.known_as(key)
