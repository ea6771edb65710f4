"""What people do in the state machine: each deed asks, holds the answer against the model, and moves the model on."""

from tests.isolation.fuzz.comparing import compare
from tests.isolation.fuzz.crew import LETTERS
from tests.isolation.fuzz.document_deeds import DocumentDeeds
from tests.isolation.fuzz.project_deeds import ProjectDeeds
from tests.isolation.fuzz.tenant_deeds import TenantDeeds


class Deeds(ProjectDeeds, DocumentDeeds, TenantDeeds):
    """All of them, and how a program begins and ends."""

    async def begin(self) -> None:
        for number in range(len(LETTERS)):
            tenant, sessions = await self.crew.found(number)
            self.tenants.append(tenant)
            self.credentials += sessions
        for founder in (self.credentials[0], self.credentials[4]):
            for _ in range(2):
                await self.create_project_as(founder)
            project = next(iter(founder.tenant.projects.values()))
            await self.upload_as(founder, project.id, broken=False)

    async def end(self) -> None:
        await self.crew.let_go(self.credentials)

    async def compare(self) -> None:
        await compare(self.crew, self.tenants, self.credentials)
