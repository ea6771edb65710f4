"""Real documents through the whole service: extraction, chunks, vectors, events, progress."""

import asyncio
import uuid
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from docx import Document as WordDocument
from fpdf import FPDF
from redis.asyncio import Redis
from sqlalchemy import func, select

from services.indexing.documents.models import Chunk, Document, EmbeddedBatch
from services.indexing.embedders.minilm import MiniLM
from services.indexing.jobs.models import Job
from services.indexing.pipeline import stages
from services.indexing.pipeline.documents import EPUB, ODT, PPTX, XLSX
from services.indexing.search.dependencies import SearchResources
from services.indexing.vectors.errors import VectorStoreUnavailable
from services.indexing.vectors.store import ProjectVectors
from shared.outbox import OutboxEvent
from shared.redis_clients import PROGRESS_STREAM
from shared.telemetry import span
from tests.services.indexing.jobs.test_worker import ends, set_job
from tests.services.indexing.pipeline.office_samples import (
    book,
    inline_row,
    open_document,
    page,
    presentation,
    shape,
    workbook,
)
from tests.services.indexing.uploads import Library
from tests.support.polling import eventually
from tests.support.serving import StartedApp

Running = tuple[StartedApp, httpx.AsyncClient]
SENTENCE = "Granite from the eastern face of the quarry built the harbour wall in 1887."

pytestmark = pytest.mark.usefixtures("running")


async def chunks(library: Library, document_id: uuid.UUID) -> list[Chunk]:
    async with library.database.tenant(library.tenant_id) as session:
        found = select(Chunk).where(Chunk.document_id == document_id).order_by(Chunk.chunk_index)
        return list(await session.scalars(found))


async def batches(library: Library) -> list[EmbeddedBatch]:
    async with library.database.tenant(library.tenant_id) as session:
        return list(await session.scalars(select(EmbeddedBatch).order_by(EmbeddedBatch.first_index)))


def pdf() -> bytes:
    document = FPDF()
    for text in (SENTENCE, "The second page speaks of lighthouses."):
        document.add_page()
        document.set_font("helvetica")
        document.multi_cell(0, text=text)
    return bytes(document.output())


def docx() -> bytes:
    document = WordDocument()
    document.add_heading("The quarry", 1)
    document.add_paragraph(SENTENCE)
    buffer = BytesIO()
    document.save(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content_type", "content"),
    [
        ("quarry.pdf", "application/pdf", pdf()),
        ("quarry.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", docx()),
        ("quarry.html", "text/html", f"<html><body><h1>Quarry</h1><p>{SENTENCE}</p></body></html>".encode()),
        ("quarry.md", "text/markdown", f"# Quarry\n\n{SENTENCE}\n".encode()),
        ("quarry.txt", "text/plain", SENTENCE.encode()),
        ("quarry.pptx", PPTX, presentation(shape("Quarry", placeholder="title") + shape(SENTENCE))),
        ("quarry.xlsx", XLSX, workbook({"Quarry": inline_row(1, SENTENCE)})),
        ("quarry.odt", ODT, open_document("text", f"<text:p>{SENTENCE}</text:p>")),
        ("quarry.epub", EPUB, book({"a.xhtml": page("Quarry", SENTENCE)})),
        ("quarry.rtf", "application/rtf", f"{{\\rtf1 {SENTENCE}}}".encode()),
        ("quarry.eml", "message/rfc822", f"From: a@b\nSubject: Quarry\n\n{SENTENCE}".encode()),
        ("quarry.csv", "text/csv", f"year,what\n1887,{SENTENCE}\n".encode()),
        ("quarry.json", "application/json", f'[{{"what": "{SENTENCE}"}}]'.encode()),
    ],
)
async def test_every_supported_kind_of_document_becomes_chunks_and_points(
    running: Running, library: Library, name: str, content_type: str, content: bytes
) -> None:
    document_id = await library.upload(content, name=name, content_type=content_type)
    assert await ends(library, document_id) == "indexed"
    found = await chunks(library, document_id)
    assert SENTENCE in " ".join(" ".join(chunk.text for chunk in found).split())
    assert [chunk.page is not None for chunk in found] == [name.endswith(".pdf")] * len(found)
    project = running[0].resources(SearchResources).search.store.project(library.tenant_id, library.project_id)
    assert [(tally.version, tally.points) for tally in await project.tally(document_id)] == [(1, len(found))]
    job = await library.job(document_id)
    assert (job.chunk_count, job.progress_done, job.lease_owner) == (len(found), len(found), None)
    assert await library.events(document_id) == [("started", 1), ("completed", 2)]


async def test_what_reading_told_is_kept_with_the_document_and_announced(library: Library) -> None:
    damaged = presentation(shape("Quarry", placeholder="title") + shape(SENTENCE), "<p:sp>")
    document_id = await library.upload(damaged, name="plans.pptx", content_type=PPTX)
    assert await ends(library, document_id) == "indexed"
    (passage,) = await chunks(library, document_id)
    assert passage.location == {"slide": 1, "headings": ["Quarry"]}
    assert passage.context == "Harbour plans"
    assert "Harbour plans" not in passage.text
    async with library.database.tenant(library.tenant_id) as session:
        document = await session.scalar(select(Document).where(Document.document_id == document_id))
        told = (await session.scalars(select(OutboxEvent).order_by(OutboxEvent.position.desc()).limit(1))).one().data
    assert document is not None
    assert document.title == "Harbour plans"
    assert (told["title"], told["partly_read"]) == ("Harbour plans", ["damaged_slide"])
    await library.delete(document_id)
    async with library.database.tenant(library.tenant_id) as session:
        document = await session.scalar(select(Document).where(Document.document_id == document_id))
        job = await session.scalar(select(Job).where(Job.document_id == document_id))
    assert document is not None
    assert job is not None
    assert (document.title, job.title) == (None, None)


async def test_a_text_is_read_in_the_encoding_that_was_declared_at_its_upload(library: Library) -> None:
    document_id = uuid.uuid4()
    library.projects.types[document_id] = "text/plain; charset=iso-8859-2"
    await library.upload("Część".encode("iso-8859-2"), document_id=document_id)
    assert await ends(library, document_id) == "indexed"
    assert [piece.text for piece in await chunks(library, document_id)] == ["Część"]


async def test_progress_is_reported_stage_by_stage(redis_client: Redis, library: Library) -> None:
    document_id = await library.upload(SENTENCE)
    await ends(library, document_id)

    async def ticks() -> list[dict[str, Any]] | None:
        entries: Any = await redis_client.xrange(PROGRESS_STREAM)
        # Others write to the stream as well, not all of it well-formed.
        raw = [fields.get(b"tick", b"") for _, fields in entries]
        mine = [orjson.loads(tick) for tick in raw if str(document_id).encode() in tick]
        return mine if mine and mine[-1]["stage"] == "indexed" else None

    found = await eventually(ticks)
    assert found is not None
    assert list(dict.fromkeys(tick["stage"] for tick in found)) == [
        "extracting", "chunking", "embedding", "storing", "indexed",
    ]  # fmt: skip
    percents = [tick["percent"] for tick in found]
    assert percents == sorted(percents)
    assert (percents[0], percents[-1]) == (0, 100)
    assert {tick["tenant_id"] for tick in found} == {str(library.tenant_id)}
    assert (found[0]["unit"], found[0]["total"]) == ("bytes", len(SENTENCE))
    assert (found[-1]["unit"], found[-1]["done"], found[-1]["total"]) == ("chunks", 1, 1)
    assert len({tick["traceparent"].split("-")[1] for tick in found}) == 1


async def test_one_trace_goes_from_the_upload_through_the_job_to_its_events(library: Library) -> None:
    with span("upload") as upload:
        document_id = await library.upload(SENTENCE)
    await ends(library, document_id)
    async with library.database.tenant(library.tenant_id) as session:
        published = (await session.scalars(select(OutboxEvent))).all()
    trace_id = format(upload.get_span_context().trace_id, "032x")
    assert [(event.traceparent or "").split("-")[1] for event in published] == [trace_id] * 2
    assert {event.correlation_id for event in published} == {"request-1"}


async def test_a_redis_that_refuses_ticks_delays_no_job(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.indexing.progress.PROGRESS_STREAM", "none-of-its-streams")
    assert await ends(library, await library.upload(SENTENCE)) == "indexed"


async def test_a_large_document_resumes_from_the_vectors_kept(
    running: Running, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over two batches of chunks. Embedding breaks off after the second, then the store does; then all is well."""
    monkeypatch.setattr(stages, "_KEPT_CHUNKS", 32)
    monkeypatch.setattr(stages, "_EMBEDDED_CHUNKS", 8)
    embedded: list[int] = []
    embed = MiniLM.embed

    async def counted(self: MiniLM, texts: list[str], **how: Any) -> Any:
        if sum(embedded) >= 64 and not broken.is_set():
            broken.set()
            raise ConnectionError("the embedder went away")
        embedded.append(len(texts))
        return await embed(self, texts, **how)

    async def unavailable(self: ProjectVectors, points: object) -> None:
        refused.set()
        raise VectorStoreUnavailable("down")

    broken, refused = asyncio.Event(), asyncio.Event()
    paragraphs = [f"Paragraph {number}. " + "Short words fill the line. " * 28 for number in range(45)]
    with monkeypatch.context() as patch:
        patch.setattr(MiniLM, "embed", counted)
        patch.setattr(ProjectVectors, "upsert", unavailable)
        document_id = await library.upload("\n\n".join(paragraphs))
        await asyncio.wait_for(refused.wait(), 90)
        kept = await batches(library)
        assert broken.is_set()
        total = (await library.job(document_id)).chunk_count
        assert total is not None
        assert total > 64
        assert [(batch.first_index, batch.count) for batch in kept] == [(n, 32) for n in range(0, total - 32, 32)]
        assert kept[0].model == running[0].resources(SearchResources).search.embedders.target.name
        assert np.isclose(np.linalg.norm(np.frombuffer(kept[1].vectors, "<f4").reshape(32, -1), axis=1), 1).all()
    await set_job(library.database, document_id, next_run_at=func.now())
    assert await ends(library, document_id, within=60) == "indexed"
    found = await chunks(library, document_id)
    # Until the store was asked for the first time, every chunk had been embedded once.
    assert sum(embedded) == total
    assert await batches(library) == []
    project = running[0].resources(SearchResources).search.store.project(library.tenant_id, library.project_id)
    assert await project.count(document_id) == len(found) == total
    assert library.projects.asked[document_id] == 1
