"""Chunks as clients see them: access, pages, shapes."""

import uuid

from services.indexing.documents import listed_chunks
from services.indexing.documents.listed_chunks import ListedChunk, Position
from services.indexing.documents.owner import DocumentOwner
from services.indexing.documents.schemas import ChunkOut
from shared.auth import Principal, Scope
from shared.pagination import Page
from shared.project_access import Admission, ProjectDirectory
from shared.transactions import TenantTransactions


async def chunks(
    transactions: TenantTransactions,
    principal: Principal,
    directory: ProjectDirectory,
    owner: DocumentOwner,
    *,
    project_id: uuid.UUID,
    document_id: uuid.UUID,
    cursor: str | None,
    limit: int,
) -> Page[ChunkOut]:
    """The chunks of a document's live version, in the order of its text; none while there is no live version.

    Raises:
        InvalidCursor: not issued by this list.
        VersionReplaced: a newer version has replaced the one that the cursor pages through.
        NotFound, Forbidden, Unavailable: see `ProjectDirectory.require` and `DocumentOwner.require`.
    """
    position = None if cursor is None else Position.decode(cursor, document_id)
    admission = Admission(directory, principal, project_id, Scope.DOCUMENTS_READ)
    async with transactions.begin() as session:
        found = await listed_chunks.after(session, admission, document_id, position, limit=limit + 1)
    if found is None:
        await owner.require(transactions.tenant_id, project_id, document_id)
    if found is None or found.version is None:
        return Page(items=[], next_cursor=None)
    version, shown = found.version, found.chunks[:limit]
    more = len(found.chunks) > limit
    return Page(
        items=[_chunk(version, chunk) for chunk in shown],
        next_cursor=Position(document_id, version, shown[-1].chunk_index).encode() if more else None,
    )


def _chunk(version: int, chunk: ListedChunk) -> ChunkOut:
    # Rows that are older than locations know their page.
    page_alone = None if chunk.page is None else {"page": chunk.page}
    return ChunkOut.model_validate(
        {
            "version": version,
            "chunk_index": chunk.chunk_index,
            "start": chunk.start,
            "end": chunk.end,
            "text": chunk.text,
            "page": chunk.page,
            "location": page_alone if chunk.location is None else chunk.location,
        }
    )
