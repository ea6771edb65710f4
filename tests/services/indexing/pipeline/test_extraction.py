"""The pool: documents in confined processes, and a calling process that outlives whatever is in them."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from services.indexing.pipeline import extraction, frames
from services.indexing.pipeline.documents import DOCX, HTML, PDF, PLAIN_TEXT, Extracted, PageSpan
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
from services.indexing.pipeline.extraction import ExtractionPool, Limits, parse_answer
from tests.services.indexing.pipeline.processes import (
    all_gone,
    children,
    extraction_processes,
    first_copy,
    state,
)
from tests.services.indexing.pipeline.samples import (
    entity_bomb,
    paragraph,
    pdf,
    slow_word_archive,
    word_archive,
    word_body,
    word_document,
)

LIMITS = Limits(memory_bytes=512 * 1024 * 1024, deadline_seconds=30.0)


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
async def fresh(limits: Limits = LIMITS, size: int = 1) -> AsyncIterator[tuple[ExtractionPool, set[int]]]:
    """A pool of the test's own, and its processes."""
    before = extraction_processes()
    async with ExtractionPool(size, limits) as pool:
        yield pool, extraction_processes() - before


async def extract(pool: ExtractionPool, path: Path) -> Extracted:
    return await pool.extract(path, name=path.name, declared_type="")


async def test_every_format_is_read(pool: ExtractionPool, tmp_path: Path) -> None:
    contents = {
        PLAIN_TEXT: b"Granite built the wall.",
        HTML: b"<html><body>Granite built the wall.</body></html>",
        PDF: pdf("Granite built the wall."),
        DOCX: word_archive(word_body(paragraph("Granite built the wall."))),
    }
    for content_type, content in contents.items():
        path = tmp_path / "document"
        path.write_bytes(content)
        extracted = await extract(pool, path)
        assert (extracted.content_type, extracted.text) == (content_type, "Granite built the wall.")
        assert (extracted.pages is not None) == (content_type == PDF)


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
    assert extraction_processes() == before


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
    extracted = await pool.extract(note, name="\udcff.md", declared_type="text/markdown")
    assert extracted.text == "Granite built the wall."


async def test_long_texts_come_back_whole(pool: ExtractionPool, tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    text = "\n\n".join(f'Paragraph {number} says "élan" \\o/.' for number in range(100_000))
    path.write_text(text, encoding="utf-8")
    assert (await extract(pool, path)).text == text


async def test_the_deadline_ends_a_document_and_not_the_process(slow: Path, note: Path) -> None:
    async with fresh(replace(LIMITS, deadline_seconds=0.3)) as (pool, warm):
        with pytest.raises(ExtractionTimeout):
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
        assert (await extract(pool, note)).text == "Granite built the wall."
        assert not reading.done()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading


async def test_cancelling_kills_the_process_and_starts_another(slow: Path, note: Path) -> None:
    async with fresh() as (pool, warm):
        reading = asyncio.create_task(extract(pool, slow))
        copy = await first_copy(warm)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await all_gone(warm | {copy})
        assert (await extract(pool, note)).text == "Granite built the wall."


async def test_cancelling_while_waiting_for_a_place_disturbs_nobody(slow: Path, note: Path) -> None:
    async with fresh() as (pool, warm):
        reading = asyncio.create_task(extract(pool, slow))
        await first_copy(warm)
        waiting = asyncio.create_task(extract(pool, note))
        patient = asyncio.create_task(extract(pool, note))
        await asyncio.sleep(0)
        waiting.cancel()
        reading.cancel()
        await asyncio.gather(waiting, reading, return_exceptions=True)
        assert (await patient).text == "Granite built the wall."


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
from services.indexing.pipeline.extraction import ExtractionPool

async def main():
    async with ExtractionPool(2) as pool:
        reading = asyncio.create_task(pool.extract(Path(sys.argv[1]), name="", declared_type=""))
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
    warm = extraction_processes(parent.pid)
    copy = await first_copy(warm)
    assert len(warm) == 2
    parent.kill()
    await parent.wait()
    await all_gone({*warm, copy})


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


def answer(**fields: object) -> bytes:
    extracted = {"text": "granite", "content_type": PDF, "pages": None, "title": None, **fields}
    return orjson.dumps({"extracted": extracted})


def test_an_honest_answer_is_taken() -> None:
    pages = [{"number": 1, "start": 0, "end": 3}, {"number": 2, "start": 3, "end": 7}]
    expected = Extracted("granite", PDF, (PageSpan(1, 0, 3), PageSpan(2, 3, 7)), "Wall")
    assert parse_answer(answer(pages=pages, title="Wall"), LIMITS) == expected


@pytest.mark.parametrize(
    "lie",
    [
        b"",
        b"\x80\x04pickle",
        b"[]",
        b"{}",
        b'{"extracted": null}',
        answer(text=""),
        answer(text=5),
        answer(text="x\0"),
        answer(text="x" * 101),
        answer(content_type="text/plain; evil"),
        answer(pages=[{"number": 1, "start": 0, "end": 8}]),
        answer(pages=[{"number": 1, "start": -1, "end": 1}]),
        answer(pages=[{"number": 1, "start": 3, "end": 2}]),
        answer(pages=[{"number": 1, "start": 0, "end": 3}, {"number": 2, "start": 2, "end": 4}]),
        answer(pages=[{"number": 2, "start": 0, "end": 3}, {"number": 1, "start": 3, "end": 4}]),
        b'{"failure": {"code": "no_such_code", "kind": "", "detail": ""}}',
    ],
)
def test_a_process_taken_over_can_only_spoil_its_own_document(lie: bytes) -> None:
    with pytest.raises(CorruptDocument):
        parse_answer(lie, replace(LIMITS, max_characters=100))


def test_failures_cross_the_pipe_whole() -> None:
    with pytest.raises(EmptyDocument, match="scan") as caught:
        parse_answer(frames.failure(EmptyDocument("pdf", detail="\udcff" + "x" * 1000)), LIMITS)
    assert caught.value.code == "empty_document"
    assert len(caught.value.detail) == 300


async def test_a_frame_that_is_too_long_is_not_read(note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note.write_text("granite " * 1_000_000, encoding="utf-8")
    async with fresh() as (pool, warm):
        monkeypatch.setattr(Limits, "max_frame_bytes", 1000)
        with pytest.raises(ExtractionInterrupted):
            await extract(pool, note)
        await all_gone(warm)
