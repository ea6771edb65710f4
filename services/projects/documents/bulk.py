"""One action on many documents of a project, chosen by what they are.

A request looks at the next `_LOOKED_AT` documents, newest first, and acts on at most `MOST` of those wanted; its cursor
says where to go on. Each `_TOGETHER` of them are one transaction, so nobody waits long for a lock, and events come in
small groups. Documents that are locked at that moment get a transaction each: several locks are never waited for.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.documents import repository, service
from services.projects.documents.models import Document, DocumentStatus
from services.projects.projects.service import authorize
from shared.auth import Principal, Scope
from shared.pagination import decode_cursor, encode_cursor
from shared.transactions import TenantTransactions

BulkAction = Literal["cancel", "retry", "delete"]

MOST: Final = 500
_LOOKED_AT: Final = 5_000
_TOGETHER: Final = 50


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which documents; what is None does not matter. `name` is normalized, `metadata` is contained in theirs."""

    status: Sequence[DocumentStatus] | None = None
    name: str | None = None
    batch_id: uuid.UUID | None = None
    metadata: dict[str, Any] | None = None


async def run(
    transactions: TenantTransactions,
    principal: Principal,
    *,
    project_id: uuid.UUID,
    action: BulkAction,
    wanted: Wanted,
    limit: int,
    cursor: str | None,
) -> tuple[int, str | None]:
    """Act on the next wanted documents that the action is possible for; returns their number and the next cursor."""
    criteria = repository.criteria(
        status=wanted.status, name=wanted.name, batch_id=wanted.batch_id, metadata=wanted.metadata
    )
    async with transactions.begin() as session:
        await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)
        looked_at = await repository.looked_at(
            session, criteria, project_id=project_id, after=decode_cursor(cursor), count=_LOOKED_AT
        )
    found = [position for position, matches in looked_at if matches]
    last = None
    if len(found) > limit:
        last = found[limit - 1]
    elif len(looked_at) == _LOOKED_AT:
        last = looked_at[-1][0]
    ids = [document_id for _, document_id in found[:limit]]
    affected = 0

    async def act(chosen: Sequence[uuid.UUID], *, wait: bool) -> list[uuid.UUID]:
        """Returns those that are locked, or not wanted any more."""
        nonlocal affected
        async with transactions.begin() as session:
            await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)
            documents = await repository.chosen(session, criteria, project_id=project_id, ids=chosen, wait=wait)
            for document in documents:
                affected += await _act(session, principal, document, action)
        return [document_id for document_id in chosen if document_id not in {document.id for document in documents}]

    for start in range(0, len(ids), _TOGETHER):
        for document_id in await act(ids[start : start + _TOGETHER], wait=False):
            await act([document_id], wait=True)
    return affected, None if last is None else encode_cursor(*last)


async def _act(session: AsyncSession, principal: Principal, document: Document, action: BulkAction) -> bool:
    """False when there is nothing to do."""
    if action == "delete":
        await service.remove(session, principal, document)
        return True
    if document.linked or document.status not in service.POSSIBLE[action]:
        return False
    await (service.stop if action == "cancel" else service.queue_again)(session, principal, document)
    return True
