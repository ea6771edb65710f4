"""What happens to runs when a document, a project or a tenant is deleted."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.agents.runs import service
from shared.events.envelope import Envelope
from shared.events.identity import TenantDeleted
from shared.events.projects import DocumentDeleted, ProjectDeleted
from shared.handlers import Handler
from shared.tenancy import after_commit


def handlers(*, wake: Callable[[], None], interrupt: Callable[[], None]) -> Sequence[Handler[Any]]:
    """After the commit they call `interrupt`, since runs under way may have ended, and `wake`, since some are to be
    forgotten."""

    def signal(session: AsyncSession) -> None:
        after_commit(session, interrupt)
        after_commit(session, wake)

    async def document_deleted(session: AsyncSession, event: DocumentDeleted, _envelope: Envelope) -> None:
        await service.lose_document(session, event.document_id)
        signal(session)

    async def project_deleted(session: AsyncSession, event: ProjectDeleted, _envelope: Envelope) -> None:
        await service.lose_project(session, event.project_id)
        signal(session)

    async def tenant_deleted(session: AsyncSession, event: TenantDeleted, envelope: Envelope) -> None:
        if event.tenant_id != envelope.tenantid:
            raise ValueError("the event names another tenant than its envelope")
        await service.lose_tenant(session)
        signal(session)

    return (
        Handler(DocumentDeleted, document_deleted, "indexing.runs.on_document_deleted"),
        Handler(ProjectDeleted, project_deleted, "indexing.runs.on_project_deleted"),
        Handler(TenantDeleted, tenant_deleted, "indexing.runs.on_tenant_deleted"),
    )
