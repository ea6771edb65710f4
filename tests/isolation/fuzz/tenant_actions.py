"""What people do with tenants: roles, invitations, the active one, keys."""

import asyncio
import uuid
from typing import Any, Final, cast

from tests.isolation.fuzz.model import ALL, Credential, Invitation, Tenant, TenantRole, end_invitations_beyond, end_key
from tests.isolation.fuzz.scene import Scene, pick

ROLES: Final = ("member", "admin", "owner")
SCOPES: Final = (
    ALL,
    ALL - {"keys:admin", "members:admin"},
    frozenset({"search"}),
    frozenset({"projects:read", "documents:read", "documents:write"}),
    frozenset({"events:read", "projects:write"}),
)


class TenantActions(Scene):
    """Each action is about whom and what its numbers pick."""

    async def change_role(self, who: int, whom: int, role: str) -> None:
        credential, given = self.who(who), cast(TenantRole, role)
        user = self.whom(credential, whom)
        expected = credential.refused_tenant_wide("members:admin") or self._refused_change(credential, user, given)
        path = f"/v1/members/{self.actors.people[user].id}"
        await self.actors.ask(credential, "PATCH", path, {expected or 200}, json={"role": role})
        if expected is None and credential.tenant.roles[user] != given:
            credential.tenant.roles[user] = given
            end_invitations_beyond(credential.tenant, user)
            await self.user_known(user, credential.tenant)

    def _refused_change(self, credential: Credential, user: str, given: TenantRole | None) -> int | None:
        """Of a member's role by whom one may change roles; None ends the membership."""
        held = credential.tenant.roles.get(user)
        if held is None:
            return 404
        leaving = given is None and user == credential.user
        refused = None if leaving else credential.refused_taking(held)
        if given is not None and given != held:
            refused = refused or credential.refused_giving(given)
        if refused is not None:
            return refused
        return 409 if held != given and credential.tenant.is_last_owner(user) else None

    async def remove_member(self, who: int, whom: int) -> None:
        credential = self.who(who)
        user = self.whom(credential, whom)
        own = user == credential.user
        refused = credential.refused_insight() if own else credential.refused_tenant_wide("members:admin")
        expected = refused or self._refused_change(credential, user, None)
        await self.actors.ask(credential, "DELETE", f"/v1/members/{self.actors.people[user].id}", {expected or 204})
        if expected is None:
            tenant = credential.tenant
            del tenant.roles[user]
            for invitation in tenant.invitations.values():
                invitation.open &= invitation.user != user
            end_invitations_beyond(tenant, user)
            own_keys = [one for one in self.credentials if one.is_key and one.user == user and one.tenant is tenant]
            ended = [other for key in own_keys if not key.revoked for other in end_key(key, self.credentials)]
            await self.user_known(user, tenant)
            await asyncio.gather(*(self.actors.known_as(key) for key in ended if key.user != user))
            await self._roles_taken_back(user, tenant)

    async def _roles_taken_back(self, user: str, tenant: Tenant) -> None:
        """Until projects has taken the project roles of somebody who left, each of which is a change of its project.

        Nobody who may still ask can see all of it, deleted projects above all: it is looked up in the database.
        """
        held = [project for project in tenant.projects.values() if user in project.roles]
        for project in held:
            del project.roles[user]
            project.revision += 1
        if held:
            person = self.actors.people[user].id
            await self.actors.effective(lambda: self.actors.is_without_roles(tenant.id, person), f"{user} has no role")

    async def invite(self, who: int, whom: int, role: str) -> None:
        credential, given = self.who(who), cast(TenantRole, role)
        user = self.whom(credential, whom)
        expected = credential.refused_tenant_wide("members:admin") or credential.refused_giving(given)
        body = {"email": self.actors.people[user].email, "role": role}
        answer = await self.actors.ask(credential, "POST", "/v1/invitations", {expected or 201}, json=body)
        if expected is None:
            for earlier in credential.tenant.invitations.values():
                earlier.open &= earlier.user != user
            made = answer.json()
            credential.tenant.invitations[made["id"]] = Invitation(
                made["id"], user, given, made["token"], by=credential
            )

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
        await self.actors.ask(session, "POST", f"/v1/invitations/{invitation.token}/accept", {expected})
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
        await self.actors.ask(credential, "DELETE", f"/v1/invitations/{invitation_id}", {expected or 204})
        if expected is None and own is not None:
            own.open = False

    async def activate(self, who: int, where: int) -> None:
        """Switch a browser to a tenant, which takes belonging to it."""
        session, tenant = self.session(who), self.tenants[where % len(self.tenants)]
        expected = 200 if session.user in tenant.roles else 404
        await self.actors.ask(session, "POST", f"/v1/tenants/{tenant.id}/activate", {expected})
        if expected == 200:
            session.tenant = tenant
            await self.actors.known_as(session)

    async def create_key(self, who: int, scopes: frozenset[str], where: int, *, tied: bool) -> None:
        credential, project_id, project = self.in_project(who, where)
        expected = credential.refused_tenant_wide("keys:admin") or (None if scopes <= credential.limit else 403)
        if tied and (project is None or project.deleted):
            expected = expected or 422
        body: dict[str, Any] = {"name": self.name("key"), "scopes": sorted(scopes)}
        body |= {"project_id": project_id} if tied else {}
        answer = await self.actors.ask(credential, "POST", "/v1/api-keys", {expected or 201}, json=body)
        if expected is None:
            key = Credential(
                f"{body['name']} of {credential.user}",
                credential.user,
                credential.tenant,
                is_key=True,
                id=answer.json()["id"],
                limit=scopes,
                project=project_id if tied else None,
                made_with=credential if credential.is_key else None,
            )
            self.credentials.append(key)
            self.actors.hold(key, answer.json()["key"])

    async def revoke_key(self, who: int, which: int) -> None:
        credential = self.who(who)
        keys = [one for one in self.credentials if one.is_key]
        key = pick(keys, which) if keys else None
        known = key is not None and key.tenant is credential.tenant and not key.revoked
        expected = credential.refused_tenant_wide("keys:admin") or (None if known else 404)
        await self.actors.ask(
            credential, "DELETE", f"/v1/api-keys/{key.id if key else uuid.uuid4()}", {expected or 204}
        )
        if expected is None and key is not None:
            ended = end_key(key, self.credentials)
            await asyncio.gather(*(self.actors.known_as(one) for one in ended))
