"""What people do in the state machine: each action asks, holds the answer against the model, and moves the model on."""

from tests.isolation.fuzz.actors import LETTERS
from tests.isolation.fuzz.comparing import compare
from tests.isolation.fuzz.document_actions import DocumentActions
from tests.isolation.fuzz.project_actions import ProjectActions
from tests.isolation.fuzz.tenant_actions import TenantActions


class Actions(ProjectActions, DocumentActions, TenantActions):
    """All of them, and how a program begins and ends."""

    async def begin(self) -> None:
        for number in range(len(LETTERS)):
            tenant, sessions = await self.actors.found(number)
            self.tenants.append(tenant)
            self.credentials += sessions
        for founder in (self.credentials[0], self.credentials[4]):
            for _ in range(2):
                await self.create_project_as(founder)
            project = next(iter(founder.tenant.projects.values()))
            await self.upload_as(founder, project.id, broken=False)

    async def end(self) -> None:
        await self.actors.let_go(self.credentials)

    async def compare(self) -> None:
        await compare(self.actors, self.tenants, self.credentials)
