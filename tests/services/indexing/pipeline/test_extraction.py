"""The pool: documents in confined processes, and a calling process that outlives whatever is in them."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from services.indexing.pipeline import extraction, frames
from services.indexing.pipeline import extraction_processes as processes_of_pools
from services.indexing.pipeline.documents import (
    DOCX,
    EML,
    EPUB,
    HTML,
    ODP,
    ODS,
    ODT,
    PDF,
    PLAIN_TEXT,
    PPTX,
    RTF,
    XLSX,
    XML,
    Chunk,
    ChunkedDocument,
)
from services.indexing.pipeline.errors import (
    CorruptDocument,
    DocumentEncrypted,
    DocumentTooLarge,
    DocumentUnreadable,
    EmptyDocument,
    ExtractionError,
    ExtractionInterrupted,
    ExtractionOutOfMemory,
    ExtractionTimeout,
    UnsupportedContentType,
)
from services.indexing.pipeline.extraction import ExtractionPool, Limits
from services.indexing.pipeline.formats import text
from services.indexing.pipeline.reply_validation import Answer
from services.indexing.work_priority import UrgentWork
from tests.services.indexing.pipeline.legacy_texts import legacy_texts
from tests.services.indexing.pipeline.office_samples import (
    book,
    inline_row,
    open_document,
    presentation,
    shape,
    workbook,
)
from tests.services.indexing.pipeline.processes import (
    all_ended,
    all_gone,
    children,
    extraction_processes,
    first_copy,
    own_megabytes,
    state,
    templates,
)
from tests.services.indexing.pipeline.samples import (
    drawn_pdf,
    entity_bomb,
    paragraph,
    pdf,
    slow_word_archive,
    word_archive,
    word_body,
    word_document,
)
from tests.support.polling import eventually

TENANT, NEIGHBOUR = uuid4(), uuid4()
LIMITS = Limits(memory_bytes=640 * 1024 * 1024, deadline_seconds=30.0, short_seconds=60.0)


@pytest.fixture(scope="module")
async def pool() -> AsyncIterator[ExtractionPool]:
    async with ExtractionPool(1, LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slow") / "slow.docx"
    path.write_bytes(slow_word_archive())
    return path


@pytest.fixture
def note(tmp_path: Path) -> Path:
    path = tmp_path / "note.txt"
    path.write_text("Granite built the wall.", encoding="utf-8")
    return path


@asynccontextmanager
async def fresh(
    limits: Limits = LIMITS, size: int = 1, urgent: UrgentWork | None = None
) -> AsyncIterator[tuple[ExtractionPool, set[int]]]:
    """A pool of the test's own, and its processes."""
    before = extraction_processes()
    async with ExtractionPool(size, limits, urgent=urgent) as pool:
        yield pool, extraction_processes() - before


@dataclass
class Read:
    content_type: str
    text: str
    page: int | None


async def extract(pool: ExtractionPool, path: Path, tenant_id: UUID = TENANT) -> Read:
    """The document, its text put together again: between chunks there are only line ends in these samples."""
    document = await pool.extract(path, name=path.name, declared_type="", tenant_id=tenant_id)
    text, end = "", 0
    for chunk in document.chunks:
        text += "\n" * (chunk.start - end) + chunk.text
        end = chunk.end
    return Read(document.content_type, text, document.chunks[0].page)


async def test_every_encoding_is_told_in_confinement_as_elsewhere(pool: ExtractionPool, tmp_path: Path) -> None:
    """What telling them takes is loaded before: a process that reads a document opens no file."""
    path = tmp_path / "legacy.txt"
    texts = {encoding: sentences for sentences, encoding in legacy_texts()}
    for encoding, sentences in texts.items():
        path.write_bytes(sentences[:90].encode(encoding))
        assert (await extract(pool, path)).text == text.decode(path.read_bytes()).strip()


async def test_every_format_is_read(pool: ExtractionPool, tmp_path: Path) -> None:
    contents = {
        PLAIN_TEXT: b"Granite built the wall.",
        HTML: b"<html><body>Granite built the wall.</body></html>",
        PDF: pdf("Granite built the wall."),
        DOCX: word_archive(word_body(paragraph("Granite built the wall."))),
        PPTX: presentation(shape("Granite built the wall.")),
        XLSX: workbook({"A": inline_row(1, "Granite built the wall.")}),
        ODT: open_document("text", "<text:p>Granite built the wall.</text:p>"),
        ODS: open_document("spreadsheet", "<text:p>Granite built the wall.</text:p>"),
        ODP: open_document("presentation", "<text:p>Granite built the wall.</text:p>"),
        EPUB: book({"a": "<html><body>Granite built the wall.</body></html>"}),
        RTF: b"{\\rtf1 Granite built the wall.}",
        EML: b"From: a@b\nMIME-Version: 1.0\nMessage-ID: <1>\n\nGranite built the wall.",
        XML: b"<?xml version='1.0'?><a>Granite built the wall.</a>",
    }
    for content_type, content in contents.items():
        path = tmp_path / "document"
        path.write_bytes(content)
        extracted = await extract(pool, path)
        assert (extracted.content_type, extracted.text.splitlines()[-1]) == (content_type, "Granite built the wall.")
        assert (extracted.page is not None) == (content_type == PDF)


async def test_a_confined_process_reads_forms_and_absent_fonts(pool: ExtractionPool, tmp_path: Path) -> None:
    """Both make pdfium load more than a plain page does, when nothing can be loaded any more."""
    field = "<< /Type /Annot /Subtype /Widget /FT /Tx /T (ship) /V (Endeavour) /Rect [20 100 220 120] >>"
    system = "/CIDSystemInfo << /Registry (Adobe) /Ordering (Japan1) /Supplement 2 >>"
    path = tmp_path / "form.pdf"
    path.write_bytes(
        drawn_pdf(
            "BT /G 12 Tf 100 700 Td <65E5672C8A9E> Tj ET",
            catalog="/AcroForm << /Fields [6 0 R] >>",
            page="/Annots [6 0 R]",
            fonts="/G 7 0 R",
            objects=[
                field.encode(),
                b"<< /Type /Font /Subtype /Type0 /BaseFont /A /Encoding /UniJIS-UCS2-V /DescendantFonts [8 0 R] >>",
                f"<< /Type /Font /Subtype /CIDFontType0 /BaseFont /Absent {system} /FontDescriptor 9 0 R >>".encode(),
                b"<< /Type /FontDescriptor /FontName /Absent /Flags 4 /StemV 80 >>",
            ],
        )
    )
    assert (await extract(pool, path)).text.split() == ["日本語", "Endeavour"]


async def test_a_document_says_that_it_was_read_in_part(pool: ExtractionPool, tmp_path: Path) -> None:
    path = tmp_path / "scan.pdf"
    path.write_bytes(pdf("Granite.").replace(b"/Count 1", b"/Count 2").replace(b"0 R]", b"0 R 99 0 R]", 1))
    document = await pool.extract(path, name=path.name, declared_type="", tenant_id=TENANT)
    assert document.partly_read == ("unreadable_page",)


HOSTILE: list[tuple[bytes, type[ExtractionError]]] = [
    (b"", EmptyDocument),
    (random.Random(1).randbytes(10_000), UnsupportedContentType),
    (pdf("text " * 500)[:900], CorruptDocument),
    (pdf("secret", password="x"), DocumentEncrypted),
    (pdf(""), EmptyDocument),
    (word_document()[:5000], CorruptDocument),
    (word_archive(entity_bomb() + f"<w:p>{paragraph('&j;')}</w:p>"), CorruptDocument),
    (word_archive(word_body("<w:p>" * 500_000)), CorruptDocument),
    (word_archive(word_body(paragraph("0" * 300_000_000))), DocumentTooLarge),
]


@pytest.mark.parametrize(("content", "expected"), HOSTILE, ids=lambda value: getattr(value, "__name__", ""))
async def test_hostile_documents_fail_with_a_reason_and_harm_nobody(
    pool: ExtractionPool, tmp_path: Path, note: Path, content: bytes, expected: type[ExtractionError]
) -> None:
    before = extraction_processes()
    path = tmp_path / "hostile.docx"
    path.write_bytes(content)
    with pytest.raises(expected) as caught:
        await extract(pool, path)
    assert caught.value.permanent
    assert caught.value.message.endswith(".")
    assert (await extract(pool, note)).text == "Granite built the wall."
    assert extraction_processes() >= before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("deep.json", b"[" * 3_000_000),
        ("deep.ipynb", b'{"a":' * 1_000_000),
        ("cut.json", b'[{"stone": "gran'),
        ("deep.xml", b"<a>" * 1_000_000),
        ("bomb.xml", f"{entity_bomb()}<a>&j;</a>".encode()),
    ],
)
async def test_hostile_texts_fail_with_a_reason_and_harm_nobody(
    pool: ExtractionPool, tmp_path: Path, note: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CorruptDocument) as caught:
        await extract(pool, path)
    assert caught.value.kind
    assert (await extract(pool, note)).text == "Granite built the wall."


async def test_endless_html_is_read_or_refused_and_harms_nobody(
    pool: ExtractionPool, tmp_path: Path, note: Path
) -> None:
    path = tmp_path / "deep.html"
    path.write_text("<html><body>Granite" + "<div>" * 1_000_000, encoding="utf-8")
    assert (await extract(pool, path)).text == "Granite"
    assert (await extract(pool, note)).text == "Granite built the wall."


async def test_a_missing_file_is_worth_another_try(pool: ExtractionPool, tmp_path: Path) -> None:
    with pytest.raises(DocumentUnreadable) as caught:
        await extract(pool, tmp_path / "missing")
    assert not caught.value.permanent


async def test_a_name_with_broken_unicode_is_only_a_hint(pool: ExtractionPool, note: Path) -> None:
    document = await pool.extract(note, name="\udcff.md", declared_type="text/markdown", tenant_id=TENANT)
    assert [chunk.text for chunk in document.chunks] == ["Granite built the wall."]


async def test_long_texts_come_back_whole(pool: ExtractionPool, tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    text = "\n\n".join(f'Paragraph {number} says "élan" \\o/.' for number in range(100_000))
    path.write_text(text, encoding="utf-8")
    assert (await extract(pool, path)).text == text


async def test_the_deadline_ends_a_document_and_not_the_process(slow: Path, note: Path) -> None:
    async with fresh(replace(LIMITS, deadline_seconds=0.3)) as (pool, warm):
        # Which of them depends on how busy the machine is.
        with pytest.raises((ExtractionTimeout, ExtractionInterrupted)):
            await extract(pool, slow)
        assert not [copy for process in warm for copy in children(process)]
        assert (await extract(pool, note)).text == "Granite built the wall."


async def test_processor_time_is_limited(slow: Path) -> None:
    async with ExtractionPool(1, replace(LIMITS, cpu_seconds=1)) as pool:
        with pytest.raises(ExtractionTimeout, match="took too long") as caught:
            await extract(pool, slow)
        assert "processor time" in caught.value.detail


async def test_memory_is_limited(tmp_path: Path, note: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_bytes(b"granite " * 10_000_000)
    async with ExtractionPool(1, Limits(memory_bytes=150 * 1024 * 1024, max_characters=100_000_000)) as pool:
        with pytest.raises(ExtractionOutOfMemory):
            await extract(pool, path)
        assert (await extract(pool, note)).text == "Granite built the wall."


async def test_a_stuck_process_is_replaced(slow: Path, note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "_GRACE_SECONDS", 0.0)
    async with fresh(replace(LIMITS, deadline_seconds=1.0)) as (pool, stuck):
        for process in stuck:
            os.kill(process, signal.SIGSTOP)
        with pytest.raises(ExtractionTimeout, match="took too long"):
            await extract(pool, slow)
        assert (await extract(pool, note)).text == "Granite built the wall."
        assert not stuck & extraction_processes()


async def test_documents_are_read_side_by_side_up_to_the_size(slow: Path, note: Path) -> None:
    async with fresh(size=2) as (pool, warm):
        reading = asyncio.create_task(extract(pool, slow))
        await first_copy(warm)
        assert (await extract(pool, note, NEIGHBOUR)).text == "Granite built the wall."
        assert not reading.done()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading


async def test_a_tenant_leaves_a_process_to_the_others(slow: Path, note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "_PLACE_SECONDS", 60.0)
    async with fresh(size=2) as (pool, warm):
        flood = [asyncio.create_task(extract(pool, slow)) for _ in range(6)]
        await first_copy(warm)
        for _ in range(3):
            assert (await extract(pool, note, NEIGHBOUR)).text == "Granite built the wall."

        async def has_one() -> bool:
            return len([copy for process in warm for copy in children(process)]) == 1

        await eventually(has_one)
        assert not any(reading.done() for reading in flood)
        for reading in flood:
            reading.cancel()
        await asyncio.gather(*flood, return_exceptions=True)


async def test_a_document_has_the_usual_priority_at_first(slow: Path) -> None:
    async with fresh(LIMITS) as (pool, warm):
        reading = asyncio.create_task(extract(pool, slow))
        copy = await first_copy(warm)
        assert os.getpriority(os.PRIO_PROCESS, copy) == os.getpriority(os.PRIO_PROCESS, 0)
        assert os.sched_getscheduler(copy) == os.SCHED_OTHER
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_a_document_that_takes_long_lets_everything_else_go_first(slow: Path) -> None:
    async with fresh(replace(LIMITS, short_seconds=0.2)) as (pool, warm):
        reading = asyncio.create_task(extract(pool, slow))
        copy = await first_copy(warm)

        async def gives_way() -> bool:
            return os.sched_getscheduler(copy) == os.SCHED_IDLE

        await eventually(gives_way)
        assert os.getpriority(os.PRIO_PROCESS, copy) == 19
        assert not reading.done()
        (process,) = warm
        assert os.getpriority(os.PRIO_PROCESS, process) == os.getpriority(os.PRIO_PROCESS, 0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_a_document_that_takes_long_pauses_while_something_urgent_is_under_way(
    slow: Path, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "_GRACE_SECONDS", 0.5)
    urgent, limits = UrgentWork(), replace(LIMITS, short_seconds=0.2, deadline_seconds=2.0)
    async with fresh(limits, urgent=urgent) as (pool, warm):
        reading = asyncio.create_task(extract(pool, slow))
        copy = await first_copy(warm)

        async def paused() -> bool:
            return state(copy) == "T"

        with urgent.under_way():
            await eventually(paused)
            await asyncio.sleep(limits.deadline_seconds + 1.0)
            assert state(copy) == "T", "the pause counts towards the deadline"
            assert not reading.done()
        assert state(copy) in {"R", "T"}
        with urgent.under_way():
            await eventually(paused)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await all_ended({copy})
        with urgent.under_way():
            assert (await extract(pool, note, NEIGHBOUR)).text == "Granite built the wall."


async def test_a_document_that_takes_long_leaves_its_place_to_the_next(slow: Path, note: Path) -> None:
    found = asyncio.Event()
    async with fresh(replace(LIMITS, short_seconds=0.2)) as (pool, warm):
        read = partial(pool.extract, name="", declared_type="", tenant_id=TENANT)
        reading = asyncio.create_task(read(slow, takes_long=found.set))
        copy = await first_copy(warm)
        await asyncio.wait_for(found.wait(), 10)
        for tenant_id in (TENANT, NEIGHBOUR):
            assert (await extract(pool, note, tenant_id)).text == "Granite built the wall."
        # There is one place for long documents.
        waiting = asyncio.create_task(read(note, long=True))
        assert not reading.done()
        assert not waiting.done()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await all_ended({copy})
        assert (await waiting).chunks[0].text == "Granite built the wall."


async def test_a_document_that_gets_no_processor_does_not_take_long_but_leaves_its_place(
    slow: Path, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "_PLACE_SECONDS", 1.5)
    found = asyncio.Event()
    async with fresh(replace(LIMITS, short_seconds=0.4)) as (pool, warm):
        reading = asyncio.create_task(
            pool.extract(slow, name="", declared_type="", tenant_id=TENANT, takes_long=found.set)
        )
        copy = await first_copy(warm)
        os.kill(copy, signal.SIGSTOP)
        await asyncio.sleep(0.8)
        assert not found.is_set()
        assert (await extract(pool, note, NEIGHBOUR)).text == "Granite built the wall."
        assert found.is_set()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def niceness(process: int) -> int | None:
    """None for a process that has ended."""
    try:
        return os.getpriority(os.PRIO_PROCESS, process)
    except ProcessLookupError:
        return None


async def test_what_tenants_of_long_documents_send_gives_way_from_the_beginning(
    slow: Path, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "_PLACE_SECONDS", 0.0)
    async with fresh() as (pool, warm):
        await extract(pool, note)
        monkeypatch.setattr(extraction, "_PLACE_SECONDS", 60.0)
        reading = asyncio.create_task(extract(pool, slow))

        async def gives_way() -> bool:
            copies = [copy for process in warm | extraction_processes() for copy in children(process)]
            return any(niceness(copy) == 19 for copy in copies)

        await eventually(gives_way)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_tenants_of_long_documents_leave_all_processes_to_the_others_but_one_besides(
    slow: Path, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "_PLACE_SECONDS", 0.0)
    async with fresh() as (pool, _):
        for tenant_id in (TENANT, NEIGHBOUR):
            await pool.extract(note, name="", declared_type="", tenant_id=tenant_id)
        monkeypatch.setattr(extraction, "_PLACE_SECONDS", 60.0)
        flood = [asyncio.create_task(extract(pool, slow, tenant_id)) for tenant_id in (TENANT, NEIGHBOUR)]
        await asyncio.sleep(0)
        assert (await extract(pool, note, uuid4())).text == "Granite built the wall."
        for reading in flood:
            reading.cancel()
        await asyncio.gather(*flood, return_exceptions=True)


async def test_what_waited_since_before_its_tenant_sent_a_long_document_leaves_the_processes_too(
    slow: Path, note: Path
) -> None:
    found = asyncio.Event()
    async with fresh(replace(LIMITS, short_seconds=0.2)) as (pool, _):
        read = partial(pool.extract, slow, name="", declared_type="", tenant_id=TENANT)
        flood = [asyncio.create_task(read(takes_long=found.set)), asyncio.create_task(read())]
        await asyncio.wait_for(found.wait(), 10)
        for _ in range(3):
            assert (await extract(pool, note, NEIGHBOUR)).text == "Granite built the wall."
        assert not any(reading.done() for reading in flood)
        for reading in flood:
            reading.cancel()
        await asyncio.gather(*flood, return_exceptions=True)


async def test_a_document_that_takes_long_may_be_told_to_come_back_later(slow: Path, note: Path) -> None:
    def refuse() -> None:
        raise LaterError

    async with fresh(replace(LIMITS, short_seconds=0.2)) as (pool, warm):
        with pytest.raises(LaterError):
            await pool.extract(slow, name="", declared_type="", tenant_id=TENANT, takes_long=refuse)
        assert (await extract(pool, note)).text == "Granite built the wall."
        assert extraction_processes() >= warm


class LaterError(Exception):
    """The place is for somebody else."""


async def test_splitting_is_limited_as_reading_is(tmp_path: Path, note: Path) -> None:
    path = tmp_path / "run.txt"
    path.write_text("\u4e00" * 3_000_000, encoding="utf-8")
    async with ExtractionPool(1, replace(LIMITS, cpu_seconds=1)) as pool:
        with pytest.raises(ExtractionTimeout, match="took too long") as caught:
            await extract(pool, path)
        assert "processor time" in caught.value.detail
        assert (await extract(pool, note)).text == "Granite built the wall."


async def test_the_number_of_chunks_is_limited_where_the_document_is_read(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("Granite built the wall. " * 1000, encoding="utf-8")
    async with ExtractionPool(1, replace(LIMITS, max_chunks=10)) as pool:
        with pytest.raises(DocumentTooLarge) as caught:
            await extract(pool, path)
        assert caught.value.permanent
        # Said by the process; the pool, which also counts, would speak of more than 10.
        assert "more" not in caught.value.detail


async def test_cancelling_ends_the_reading_and_frees_the_process(slow: Path, note: Path) -> None:
    async with fresh() as (pool, warm):
        for _ in range(3):
            reading = asyncio.create_task(extract(pool, slow))
            copy = await first_copy(warm)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert (await extract(pool, note)).text == "Granite built the wall."
            assert (await extract(pool, note)).text == "Granite built the wall."
            await all_gone({copy})
        assert extraction_processes() >= warm


async def test_cancelling_at_any_moment_mixes_no_answers_up(pool: ExtractionPool, note: Path, tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("Chapter one.\n\n" * 20_000, encoding="utf-8")
    for number in range(40):
        reading = asyncio.create_task(extract(pool, book if number % 2 else note))
        await asyncio.sleep(number * 0.003)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert (await extract(pool, note)).text == "Granite built the wall."


async def test_a_process_that_does_not_let_go_is_replaced(
    slow: Path, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "_GRACE_SECONDS", 0.5)
    async with fresh() as (pool, warm):
        reading = asyncio.create_task(extract(pool, slow))
        copy = await first_copy(warm)
        (process,) = warm
        os.kill(process, signal.SIGSTOP)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert (await extract(pool, note)).text == "Granite built the wall."
        await all_gone({process, copy})


async def test_cancelling_while_waiting_for_a_place_disturbs_nobody(slow: Path, note: Path) -> None:
    async with fresh() as (pool, warm):
        reading = asyncio.create_task(extract(pool, slow))
        await first_copy(warm)
        waiting = asyncio.create_task(extract(pool, note))
        background = asyncio.create_task(extract(pool, note))
        await asyncio.sleep(0)
        waiting.cancel()
        reading.cancel()
        await asyncio.gather(waiting, reading, return_exceptions=True)
        assert (await background).text == "Granite built the wall."


@pytest.mark.parametrize(
    ("with_signal", "expected"),
    [(signal.SIGKILL, ExtractionInterrupted), (signal.SIGSEGV, CorruptDocument), (signal.SIGABRT, CorruptDocument)],
)
async def test_a_copy_that_dies_says_whether_to_try_again(
    slow: Path, note: Path, with_signal: signal.Signals, expected: type[ExtractionError]
) -> None:
    async with fresh() as (pool, warm):
        reading = asyncio.create_task(extract(pool, slow))
        os.kill(await first_copy(warm), with_signal)
        with pytest.raises(expected) as caught:
            await reading
        assert caught.value.permanent == (expected is CorruptDocument)
        assert caught.value.detail == with_signal.name
        assert (await extract(pool, note)).text == "Granite built the wall."
        assert warm <= extraction_processes()


async def test_a_process_killed_at_work_reads_the_document_again(note: Path, tmp_path: Path) -> None:
    book = tmp_path / "book.docx"
    book.write_bytes(word_archive(word_body(paragraph("granite") * 200_000)))
    async with fresh() as (pool, processes):
        (warm,) = processes
        reading = asyncio.create_task(extract(pool, book))
        copy = await first_copy({warm})
        os.kill(warm, signal.SIGKILL)
        await all_gone({copy, warm})
        assert (await reading).text.count("granite") == 200_000


async def test_a_document_whose_process_is_killed_twice_is_worth_another_try(slow: Path, note: Path) -> None:
    before = extraction_processes()
    async with fresh() as (pool, warm):
        reading = asyncio.create_task(extract(pool, slow))
        for _ in range(2):
            copy = await first_copy(extraction_processes() - before)
            os.kill((extraction_processes() - before).pop(), signal.SIGKILL)
            await all_gone({copy})
        with pytest.raises(ExtractionInterrupted) as caught:
            await reading
        assert not caught.value.permanent
        assert (await extract(pool, note)).text == "Granite built the wall."
        assert not warm & extraction_processes()


async def test_a_process_killed_while_idle_is_replaced_unnoticed(note: Path) -> None:
    async with fresh() as (pool, processes):
        (warm,) = processes
        os.kill(warm, signal.SIGKILL)
        await all_gone({warm})
        assert (await extract(pool, note)).text == "Granite built the wall."


async def test_a_template_killed_while_idle_is_replaced_with_its_processes(note: Path) -> None:
    before = templates()
    async with fresh(size=2) as (pool, warm):
        (template,) = templates() - before
        os.kill(template, signal.SIGKILL)
        await all_ended(warm)
        assert (await extract(pool, note)).text == "Granite built the wall."
        assert len(templates() - before) == 1


async def test_a_template_that_is_stuck_is_replaced(note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes_of_pools, "_END_SECONDS", 0.1)
    before = templates()
    async with fresh() as (pool, warm):
        (template,) = templates() - before
        os.kill(template, signal.SIGSTOP)
        for process in warm:
            os.kill(process, signal.SIGKILL)
        await all_ended(warm)
        monkeypatch.setattr(processes_of_pools, "_START_SECONDS", 0.1)
        with pytest.raises(ExtractionInterrupted):
            await extract(pool, note)
        monkeypatch.undo()
        assert (await extract(pool, note)).text == "Granite built the wall."


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look")
async def test_processes_share_the_memory_of_what_they_have_loaded() -> None:
    async with fresh(size=2) as (_, warm):
        for process in warm:
            assert own_megabytes(process) < 15


async def test_leaving_the_pool_leaves_no_process_and_ends_what_runs(slow: Path, note: Path) -> None:
    async with fresh(size=2) as (pool, warm):
        reading = asyncio.create_task(extract(pool, slow))
        copy = await first_copy(warm)
    assert not any(state(process) for process in warm)
    await all_gone({copy})
    with pytest.raises(ExtractionInterrupted):
        await reading
    with pytest.raises(ExtractionInterrupted, match="interrupted"):
        await extract(pool, note)
    assert not extraction_processes() & warm


async def test_leaving_the_pool_while_a_replacement_starts(slow: Path) -> None:
    before = extraction_processes()
    async with fresh() as (pool, warm):
        reading = asyncio.create_task(extract(pool, slow))
        await first_copy(warm)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert extraction_processes() == before


PARENT = """
import asyncio, sys
from pathlib import Path
from uuid import uuid4
from services.indexing.pipeline.extraction import ExtractionPool

async def main():
    async with ExtractionPool(2) as pool:
        reading = asyncio.create_task(pool.extract(Path(sys.argv[1]), name="", declared_type="", tenant_id=uuid4()))
        print("ready", flush=True)
        await reading

asyncio.run(main())
"""


async def test_processes_die_with_a_parent_that_is_killed(slow: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(slow), stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert parent.stdout is not None
    assert await parent.stdout.readline() == b"ready\n"
    copy = await first_copy(extraction_processes(parent.pid))
    warm = extraction_processes(parent.pid)
    assert len(warm) == 2
    left = {*templates(parent.pid), *warm, copy}
    parent.kill()
    await parent.wait()
    await all_gone(left)


async def test_a_pool_that_cannot_start_says_so_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = extraction_processes()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ExtractionInterrupted, match="interrupted") as caught:
        async with ExtractionPool(2, LIMITS):
            pass
    assert "no extraction process" in caught.value.detail
    assert extraction_processes() == before


async def test_secrets_of_the_environment_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARRY_CANARY", "canary-4711")
    async with fresh() as (_, warm):
        for process in warm:
            assert b"canary-4711" not in Path(f"/proc/{process}/environ").read_bytes()


def frame_of(*pieces: list[Any]) -> bytes:
    """Chunks without a location or context, unless they have both."""
    return orjson.dumps({"chunks": [piece if len(piece) > 4 else [*piece, None, ""] for piece in pieces]})


def last_frame(**fields: object) -> bytes:
    return orjson.dumps({"document": {"content_type": PDF, "title": None, **fields}})


GRANITE = [0, 7, 1, "granite"]


def put_together(*payloads: bytes) -> ChunkedDocument:
    answer = Answer(replace(LIMITS, max_characters=100, max_chunks=3))
    for payload in payloads[:-1]:
        answer.take(payload)
    return answer.end(payloads[-1])


def test_an_honest_answer_is_taken() -> None:
    chunks = [Chunk(0, 0, 7, "granite", 1), Chunk(1, 8, 12, "wall", 2), Chunk(2, 12, 13, ".", None)]
    payloads = (frame_of(GRANITE, [8, 12, 2, "wall"]), frame_of([12, 13, None, "."]), last_frame(title="Wall"))
    assert put_together(*payloads) == ChunkedDocument(PDF, "Wall", chunks)
    sheet = put_together(frame_of([*GRANITE, {"sheet": "Walls", "rows": [2, 40]}, "Harbours"]), last_frame())
    assert sheet.chunks == [Chunk(0, 0, 7, "granite", 1, {"sheet": "Walls", "rows": (2, 40)}, "Harbours")]
    in_part = put_together(frame_of(GRANITE), last_frame(partly_read=["scanned"]))
    assert in_part.partly_read == ("scanned",)


@pytest.mark.parametrize(
    "lie",
    [
        (b"",),
        (b"\x80\x04pickle",),
        (b"[]",),
        (b"{}",),
        (last_frame(),),
        (frame_of(), last_frame()),
        (frame_of(GRANITE), last_frame(partly_read=["<script>"])),
        (frame_of(GRANITE), last_frame(partly_read=["code"] * 11)),
        (frame_of([0, 0, None, ""]), last_frame()),
        (frame_of([0, 1, None, 5]), last_frame()),
        (frame_of([0, 2, None, "x\0"]), last_frame()),
        (frame_of([0, 8, None, "granite"]), last_frame()),
        (frame_of([-1, 6, None, "granite"]), last_frame()),
        (frame_of([0, 7, -1, "granite"]), last_frame()),
        (frame_of([94, 101, None, "granite"]), last_frame()),
        (frame_of([0, 5000, None, "x" * 5000]), last_frame()),
        (frame_of(GRANITE, [6, 10, 1, "wall"]), last_frame()),
        (frame_of(GRANITE), frame_of(GRANITE), last_frame()),
        (frame_of(*([number, number + 1, 1, "x"] for number in range(65))), last_frame()),
        (frame_of([*GRANITE, {"page": -1}, ""]), last_frame()),
        (frame_of([*GRANITE, {"tenant_id": "x"}, ""]), last_frame()),
        (frame_of([*GRANITE, {"sheet": "a\0"}, ""]), last_frame()),
        (frame_of([*GRANITE, {"sheet": "x" * 400}, ""]), last_frame()),
        (frame_of([*GRANITE, {"rows": [1]}, ""]), last_frame()),
        (frame_of([*GRANITE, {"headings": ["x"] * 11}, ""]), last_frame()),
        (frame_of([*GRANITE, None, "x" * 2000]), last_frame()),
        (frame_of([*GRANITE, None, "\0"]), last_frame()),
        (frame_of(GRANITE), last_frame(title="\0")),
        (frame_of(GRANITE), last_frame(content_type="text/plain; evil")),
        (frame_of(GRANITE), last_frame(title="x" * 2000)),
        (frame_of(GRANITE), b'{"document": null}'),
        (b'{"failure": {"code": "no_such_code", "kind": "", "detail": ""}}',),
    ],
)
def test_a_process_taken_over_can_only_spoil_its_own_document(lie: tuple[bytes, ...]) -> None:
    with pytest.raises(CorruptDocument):
        put_together(*lie)


def test_more_chunks_than_are_allowed_are_too_many() -> None:
    with pytest.raises(DocumentTooLarge):
        put_together(frame_of(*([number, number + 1, 1, "x"] for number in range(4))), last_frame())


def test_failures_cross_the_pipe_whole() -> None:
    with pytest.raises(EmptyDocument, match="scan") as caught:
        Answer(LIMITS).end(frames.failure(EmptyDocument("pdf", detail="\udcff" + "x" * 1000)))
    assert caught.value.code == "empty_document"
    assert len(caught.value.detail) == 300


async def test_a_frame_that_is_too_long_is_not_read(note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note.write_text("granite " * 1_000_000, encoding="utf-8")
    async with fresh() as (pool, warm):
        monkeypatch.setattr(frames, "MAX_BYTES", 1000)
        with pytest.raises(ExtractionInterrupted):
            await extract(pool, note)
        await all_gone(warm)
