"""From the first byte of an upload to the row that refers to its blob, for documents and versions alike."""

import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.blobs.store import BlobKey, BlobStore
from services.projects.documents.authority_watch import while_allowed
from services.projects.documents.storing import Received, Stored
from services.projects.documents.upload import UploadRequest, receive
from services.projects.ids import uuid7
from services.projects.projects.service import authorize
from services.projects.tenants import service as tenants
from services.projects.tenants.service import Quotas
from shared.auth import Principal, Scope
from shared.authority_client import Authority
from shared.failpoints import failpoint
from shared.fair_semaphore import FairSemaphore
from shared.transactions import TenantTransactions

Store = Callable[[AsyncSession, Principal, Received], Awaitable[Stored]]

AFTER_SEAL = failpoint("upload.after_seal", "bytes durable, no row")
BEFORE_KEEP = failpoint("upload.before_keep", "row committed, bytes not in their place")


async def expect_room(session: AsyncSession, quotas: Quotas, request: UploadRequest) -> None:
    """Refuse bytes for which there is no room now; `storing` decides in the end."""
    # The size of a form or a chunked body is unknown, but at least a byte: no document is empty.
    known = 0 if request.is_form else request.content_length or 0
    await tenants.expect_room(session, quotas, size=max(1, known))


async def receive_and_store(
    transactions: TenantTransactions,
    principal: Principal,
    authority: Authority,
    blobs: BlobStore,
    *,
    project_id: uuid.UUID,
    request: UploadRequest,
    limit: int,
    store: Store,
    turns: FairSemaphore | None = None,
) -> Stored:
    """Receive bytes and have `store` decide what becomes of them, in the transaction that checks permission again.

    No transaction is open while the bytes arrive; they are durable before a row refers to them, and removed if none
    does. The check after the last byte always asks identity: a body may end long after its token was verified, here or
    on its way.

    Args:
        turns: for uploads that decide about the same content one after the other: they wait here, without a connection.
    """

    async def check() -> None:
        now = await authority.now(principal)
        async with transactions.begin() as session:
            await authorize(session, now, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)

    request.chunks = while_allowed(request.chunks, check)
    key = BlobKey.of_upload(transactions.tenant_id, project_id, uuid7())
    async with blobs.receive(key) as blob:
        await receive(request, blob, limit=limit)
        sha256 = await blob.seal()
        await AFTER_SEAL.reach()
        principal = await authority.now(principal)
        turn: AbstractAsyncContextManager[None] = nullcontext()
        if turns is not None and request.duplicates is not None:
            turn = turns.turn((key.tenant_id, project_id, sha256))
        async with turn, transactions.begin() as session:
            await authorize(session, principal, project_id=project_id, scope=Scope.DOCUMENTS_WRITE)
            stored = await store(session, principal, Received(key, request, blob.size, sha256))
        await BEFORE_KEEP.reach()
        if stored.bytes_used:
            await blob.keep()
        else:
            await blob.discard()
    return stored
