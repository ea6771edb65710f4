"""Everything everybody may list, held against the model; and something of the other tenant's, asked for by each."""

from collections.abc import Sequence
from typing import Any

from tests.isolation.fuzz.actors import Actors, Diverged
from tests.isolation.fuzz.model import Credential, Project, Tenant


async def compare(actors: Actors, tenants: Sequence[Tenant], credentials: Sequence[Credential]) -> None:
    """Raises Diverged: something is there that should not be, or is not."""
    for credential in credentials:
        await _projects(actors, credential)
        other = next(tenant for tenant in tenants if tenant is not credential.tenant)
        for project in list(other.projects.values())[:1]:
            await _foreign(actors, credential, project)
    for tenant in tenants:
        owners = [one for one in credentials if one.tenant is tenant and one.role == "owner" and not one.is_key]
        if owners:
            await _tenant(actors, owners[0], [one for one in credentials if one.tenant is tenant and one.is_key])
            for project in tenant.projects.values():
                await _project(actors, owners[0], project)


async def _projects(actors: Actors, credential: Credential) -> None:
    refused = credential.refused_reading("projects:read")
    for status in ("active", "deleted"):
        listed = await _listed(actors, credential, f"/v1/projects?status={status}", refused)
        if refused is None:
            expected = {project.id: project.name for project in credential.visible(deleted=status == "deleted")}
            same({item["id"]: item["name"] for item in listed}, expected, f"{status} projects of {credential.name}")


async def _foreign(actors: Actors, credential: Credential, project: Project) -> None:
    """The other tenant's is as what does not exist, with its right `If-Match` too."""
    expected = {credential.refused() or 404}
    path = f"/v1/projects/{project.id}"
    await actors.ask(credential, "GET", path, expected)
    await actors.ask(credential, "PATCH", path, expected, json={"name": "taken"}, headers={"If-Match": project.etag})
    await actors.ask(credential, "DELETE", path, expected, headers={"If-Match": project.etag})
    for document in list(project.documents)[:1]:
        await actors.ask(credential, "GET", f"{path}/documents/{document}", expected)


async def _tenant(actors: Actors, owner: Credential, keys: Sequence[Credential]) -> None:
    tenant = owner.tenant
    members = await _listed(actors, owner, "/v1/members", None)
    roles = {actors.people[user].id: role for user, role in tenant.roles.items()}
    same({item["user_id"]: item["role"] for item in members}, roles, f"members, as {owner.name}")
    listed = await _listed(actors, owner, "/v1/api-keys", None)
    same({item["id"] for item in listed}, {key.id for key in keys if not key.revoked}, f"keys, as {owner.name}")
    invitations = await _listed(actors, owner, "/v1/invitations", None)
    still_open = {item.id for item in tenant.invitations.values() if item.open}
    same({item["id"] for item in invitations}, still_open, f"invitations, as {owner.name}")


async def _project(actors: Actors, owner: Credential, project: Project) -> None:
    path = f"/v1/projects/{project.id}"
    if project.deleted:
        await actors.ask(owner, "GET", path, {404})
        return
    answer = await actors.ask(owner, "GET", path, {200})
    shown = answer.json()
    expected = (project.name, "active", len(project.there), len(project.there), project.etag)
    counted = sum(shown["document_counts"].values())
    same((shown["name"], shown["status"], shown["document_count"], counted, answer.headers["etag"]), expected, path)
    members = await _listed(actors, owner, f"{path}/members", None)
    roles = {actors.people[user].id: role for user, role in project.roles.items()}
    same({item["user_id"]: item["role"] for item in members}, roles, f"members of {path}")
    documents = await _listed(actors, owner, f"{path}/documents", None)
    same({item["id"] for item in documents}, {document.id for document in project.there}, f"documents of {path}")


async def _listed(actors: Actors, credential: Credential, path: str, refused: int | None) -> list[dict[str, Any]]:
    """All of a list, page by page in small pages; nothing when it is refused."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        params = {"limit": "7"} | ({"cursor": cursor} if cursor else {})
        # Query parameters of the path stay: httpx puts `params` in their place.
        question = f"{path}{'&' if '?' in path else '?'}" + "&".join(
            f"{name}={value}" for name, value in params.items()
        )
        answer = await actors.ask(credential, "GET", question, {refused or 200})
        if refused is not None:
            return []
        items += answer.json()["items"]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return items


def same(found: object, expected: object, what: str) -> None:
    """Raises Diverged: it is not."""
    if found != expected:
        raise Diverged(f"{what}: {found}, not {expected}")
