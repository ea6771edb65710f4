"""The documents of the collection, extracted, chunked, embedded and searchable in this process: one project of one
tenant, without Postgres and without a server."""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from services.indexing.agents.contracts import Passage, StoredText
from services.indexing.embedders.minilm import MiniLM
from services.indexing.pipeline.chunking import chunk
from services.indexing.pipeline.documents import Chunk
from services.indexing.pipeline.formats import extract_document
from services.indexing.search.fair_share import SearchShares
from services.indexing.vectors.points import ChunkPoint, VectorQuery
from services.indexing.vectors.store import EmbeddedStore, ProjectVectors
from tests.services.indexing.agents.stored_texts import stored

_MOST_CHARACTERS = 1_000_000


class Library:
    """Search over the documents, and their stored text (it is a `contracts.Texts`)."""

    def __init__(self, embedder: MiniLM, vectors: ProjectVectors, shares: SearchShares, tenant_id: uuid.UUID) -> None:
        self.embedder = embedder
        self.shares = shares
        self.tenant_id = tenant_id
        self.chunks: dict[uuid.UUID, list[Chunk]] = {}
        self._vectors = vectors
        self._names: dict[uuid.UUID, str] = {}
        self._hashes: dict[uuid.UUID, str] = {}

    async def add(self, name: str, content: bytes) -> uuid.UUID:
        document_id = uuid.uuid4()
        text = extract_document(memoryview(content), name=name, declared_type="", max_characters=_MOST_CHARACTERS)
        chunks = chunk(text.text, content_type=text.content_type, pages=text.pages)
        vectors = await self.embedder.embed([piece.text for piece in chunks], caller=self.tenant_id)
        await self._vectors.upsert(
            [
                ChunkPoint(
                    document_id=document_id,
                    version=1,
                    chunk_index=piece.index,
                    vector=vector,
                    text=piece.text,
                    content_type=text.content_type,
                    created_at=datetime.now(UTC),
                )
                for piece, vector in zip(chunks, vectors, strict=True)
            ]
        )
        self.chunks[document_id] = chunks
        self._names[document_id] = name
        self._hashes[document_id] = sha256(content).hexdigest()
        return document_id

    async def passages(self, question: str, limit: int) -> list[Passage]:
        vector = await self.embedder.embed_query(question, caller=self.tenant_id)
        hits = await self._vectors.search(VectorQuery(vector=vector, text=question, limit=limit))
        return [self._passage(hit.document_id, hit.chunk_index, hit.score) for hit in hits]

    async def read(self, document_id: uuid.UUID, version: int, start: int, end: int) -> Sequence[StoredText]:
        return stored(self.chunks[document_id] if version == 1 else (), start, end)

    def _passage(self, document_id: uuid.UUID, index: int, score: float) -> Passage:
        piece = self.chunks[document_id][index]
        return Passage(
            document_id=document_id,
            document_name=self._names[document_id],
            version=1,
            sha256=self._hashes[document_id],
            chunk_index=index,
            start=piece.start,
            end=piece.end,
            text=piece.text,
            page=piece.page,
            score=score,
        )


@asynccontextmanager
async def opened(folder: Path, documents: Mapping[str, bytes], model_dir: Path) -> AsyncIterator[Library]:
    embedder = MiniLM.load(model_dir, threads=2)
    store = EmbeddedStore(folder / "vectors", dimensions=embedder.dimensions)
    shares, tenant_id = SearchShares(), uuid.uuid4()
    await store.start()
    try:
        library = Library(embedder, store.project(tenant_id, uuid.uuid4()), shares, tenant_id)
        for name, content in documents.items():
            await library.add(name, content)
        yield library
    finally:
        await store.stop()
        shares.close()
        embedder.close()
