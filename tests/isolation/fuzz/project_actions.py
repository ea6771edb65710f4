"""What people do with projects and their members."""

from typing import cast

from tests.isolation.fuzz.comparing import same
from tests.isolation.fuzz.model import Credential, Project, ProjectRole, matched
from tests.isolation.fuzz.scene import Scene


class ProjectActions(Scene):
    """Each action is about whom and what its numbers pick."""

    async def create_project(self, who: int) -> None:
        await self.create_project_as(self.who(who))

    async def create_project_as(self, credential: Credential) -> None:
        name = self.name("project")
        refused = credential.refused_tenant_wide("projects:write")
        answer = await self.actors.ask(credential, "POST", "/v1/projects", {refused or 201}, json={"name": name})
        if refused is None:
            made = Project(answer.json()["id"], name, {credential.user: "owner"})
            credential.tenant.projects[made.id] = made
            same(answer.headers["etag"], made.etag, "etag of a new project")

    async def patch_project(self, who: int, where: int, tag: str) -> None:
        credential, project_id, project = self.in_project(who, where)
        name, condition = self.name("renamed"), self.tag(credential, project, tag)
        expected = credential.refused_in(project_id, "projects:write") or (project and matched(condition, project))
        answer = await self.actors.ask(
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
        await self.actors.ask(credential, "DELETE", f"/v1/projects/{project_id}", {expected or 204}, headers=headers)
        if expected is None and project is not None:
            project.deleted, project.revision = True, project.revision + 1
            await self.seen_by_all(credential.tenant, project.id)

    async def restore_project(self, who: int, where: int) -> None:
        credential, project_id, project = self.in_project(who, where)
        expected = credential.refused_in(project_id, "projects:write", deleted=True)
        await self.actors.ask(credential, "POST", f"/v1/projects/{project_id}/restore", {expected or 200})
        if expected is None and project is not None and project.deleted:
            project.deleted, project.revision = False, project.revision + 1
            await self.seen_by_all(credential.tenant, project.id)

    async def put_member(self, who: int, where: int, whom: int, role: str) -> None:
        credential, project_id, project = self.in_project(who, where)
        user, given = self.whom(credential, whom), cast(ProjectRole, role)
        expected = credential.refused_in(project_id, "members:admin")
        if expected is None and project is not None:
            if user not in credential.tenant.roles:
                expected = 422
            elif project.roles.get(user) != given and project.is_last_owner(user):
                expected = credential.refused_giving_in(project, given) or 409
            else:
                expected = credential.refused_giving_in(project, given)
        path = f"/v1/projects/{project_id}/members/{self.actors.people[user].id}"
        await self.actors.ask(credential, "PUT", path, {expected or 200}, json={"role": role})
        if expected is None and project is not None and project.roles.get(user) != given:
            project.roles[user], project.revision = given, project.revision + 1
            await self.user_sees(user, credential.tenant, project.id)

    async def remove_project_member(self, who: int, where: int, whom: int) -> None:
        credential, project_id, project = self.in_project(who, where)
        user = self.whom(credential, whom)
        expected = credential.refused_in(project_id, "members:admin")
        if expected is None and project is not None:
            expected = 404 if user not in project.roles else 409 if project.is_last_owner(user) else None
        path = f"/v1/projects/{project_id}/members/{self.actors.people[user].id}"
        await self.actors.ask(credential, "DELETE", path, {expected or 204})
        if expected is None and project is not None:
            del project.roles[user]
            project.revision += 1
            await self.user_sees(user, credential.tenant, project.id)
