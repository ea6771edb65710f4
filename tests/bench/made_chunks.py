"""Documents that nobody embedded, in a project of a running system: with rows in Postgres and points in the vector
store as if they were indexed, and vectors of no meaning. Embedding that many chunks takes half an hour."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from services.indexing.pipeline.documents import PLAIN_TEXT
from services.indexing.vectors.embedded.remote_engine import RemoteEngine
from services.indexing.vectors.points import ChunkPoint
from services.indexing.vectors.store import VectorStore
from tests.faults.fault_injection import admin_of
from tests.support.documents import note
from tests.support.system import System

SOCKET: Final = "QUARRY_INDEXING_VECTORS_LISTEN"
_OF_DOCUMENT: Final = 1_000
_DIMENSIONS: Final = 384
_CALL_SECONDS: Final = 60.0


async def fill(system: System, project_id: str, count: int) -> None:
    """Add so many chunks to a project that has at least one indexed document; the service listens at `SOCKET`."""
    engine = RemoteEngine(
        Path(system.services["indexing"].env[SOCKET]), dimensions=_DIMENSIONS, call_timeout=_CALL_SECONDS
    )
    store = VectorStore(engine, dimensions=_DIMENSIONS)
    await store.start()
    try:
        async with admin_of(system.stack) as postgres:
            made_with = await postgres.fetchrow(
                "SELECT tenant_id, number, analyzer FROM indexing.generations "
                "WHERE project_id = $1 AND state = 'active'",
                uuid.UUID(project_id),
            )
            assert made_with is not None, "the project has no indexed document"
            tenant_id, generation, analyzer = made_with
            for document_id, texts, vectors in _made(count):
                now, owned = datetime.now(UTC), (tenant_id, document_id, uuid.UUID(project_id))
                await postgres.execute(
                    "INSERT INTO indexing.documents (tenant_id, document_id, project_id, version, live_version, name, "
                    "content_type, metadata, sequence, created_at, indexed_chunks) "
                    "VALUES ($1, $2, $3, 1, 1, 'made.txt', $4, '{}', 1, $5, $6)",
                    *owned,
                    PLAIN_TEXT,
                    now,
                    len(texts),
                )
                await postgres.copy_records_to_table(
                    "chunks",
                    schema_name="indexing",
                    columns=["tenant_id", "document_id", "project_id", "version", "chunk_index", "start_offset",
                             "end_offset", "text"],
                    records=[(*owned, 1, index, 701 * index, 701 * index + len(text), text)
                             for index, text in enumerate(texts)],
                )  # fmt: skip
                await store.project(tenant_id, uuid.UUID(project_id)).upsert(
                    [
                        ChunkPoint(
                            document_id=document_id,
                            version=1,
                            chunk_index=index,
                            vector=vector,
                            text=text,
                            content_type=PLAIN_TEXT,
                            created_at=now,
                            analyzer=analyzer,
                            generation=generation,
                        )
                        for index, (text, vector) in enumerate(zip(texts, vectors, strict=True))
                    ]
                )
            await postgres.execute("ANALYZE indexing.documents, indexing.chunks")
    finally:
        await store.stop()


def _made(count: int) -> Iterator[tuple[uuid.UUID, list[str], np.ndarray]]:
    draw = np.random.default_rng(1)
    texts = [note(number, size=700).decode() for number in range(500)]
    for first in range(0, count, _OF_DOCUMENT):
        size = min(_OF_DOCUMENT, count - first)
        vectors = draw.normal(size=(size, _DIMENSIONS)).astype(np.float32)
        yield uuid.uuid4(), [texts[(first + index) % len(texts)] for index in range(size)], vectors
