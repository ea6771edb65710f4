"""Whether what a client did to a document is what search sees, and telling those who wait for it.

Guarantees: `announce` reaches all processes of the service once its transaction has committed, as a NOTIFY that names
the document. Whoever looks after being told sees the change.
Does not guarantee: being told, while a process is not connected (`shared.notifications`).
"""

import uuid
from typing import Any, Final, Literal

from sqlalchemy import Select, Text, Uuid, and_, bindparam, exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.documents.models import Document, VectorChange
from services.indexing.jobs.models import Job
from shared.tenancy import before_commit

CHANNEL: Final = "_arrivals"

State = Literal["awaited", "searchable", "failed"]
"""`awaited` is also said of documents that do not exist, or are not here: their upload may not have been heard of."""

_ANNOUNCE: Final = select(
    func.pg_notify(func.current_schema() + CHANNEL, bindparam("document", type_=Text()))
).execution_options(tenant_guard="tells that something changed, and reads no row")


def _of_document() -> Select[*tuple[Any, ...]]:
    described = exists().where(VectorChange.id == Document.document_id, VectorChange.describe.is_(True))
    newest = and_(Job.document_id == Document.document_id, Job.version == Document.version)
    return (
        select(Document.version, Document.live_version, Document.deleted, Job.state, described)
        .outerjoin(Job, newest)
        .where(
            Document.document_id == bindparam("document_id", type_=Uuid()),
            Document.project_id == bindparam("project_id", type_=Uuid()),
        )
    )


_OF_DOCUMENT: Final = _of_document()


def announce(session: AsyncSession, document_id: uuid.UUID) -> None:
    """Tell, with the session's transaction, that `state_of` the document may be another."""

    async def notify(session: AsyncSession) -> None:
        await session.execute(_ANNOUNCE, {"document": str(document_id)})

    before_commit(session, notify)


async def state_of(
    session: AsyncSession, *, project_id: uuid.UUID, document_id: uuid.UUID, version: int | None
) -> State:
    """Of that version of a document of the session's tenant, or of the newest one that was heard of."""
    parameters = {"document_id": document_id, "project_id": project_id}
    row = (await session.execute(_OF_DOCUMENT, parameters)).one_or_none()
    if row is None:
        return "awaited"
    newest, live, deleted, job, described_later = row
    if deleted:
        return "searchable"
    if live is not None and live >= (version or newest):
        return "awaited" if described_later else "searchable"
    ended = newest >= (version or newest) and job in ("failed", "cancelled")
    return "failed" if ended else "awaited"
