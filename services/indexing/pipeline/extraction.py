"""Extraction of untrusted documents in processes of their own.

    async with ExtractionPool(size=2) as pool:
        extracted = await pool.extract(path, name="report.pdf", declared_type="application/pdf")

Guarantees
- The calling process never parses a document. Each one is read in a fresh, confined copy of a warm process (see
  `extraction_child`), under the limits of `Limits`: address space, processor time, wall-clock time, no file written, no
  process started, no environment and so no secret to be found there.
- `extract` returns checked data or raises an `ExtractionError` that says whether trying again can help.
- A process that is killed from outside is replaced, and its document read once more.
- A cancelled `extract` kills the process at once; a replacement starts without waiting to be asked.
- Leaving the pool kills and reaps everything it started; so does the kernel when the calling process is killed (Linux).

Not guaranteed: isolation of the file system or the network. An exploited parser runs as this user.
"""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
from pydantic import TypeAdapter, ValidationError

from services.indexing.pipeline import frames
from services.indexing.pipeline.confinement import Limits
from services.indexing.pipeline.documents import SUPPORTED_CONTENT_TYPES, Extracted
from services.indexing.pipeline.errors import (
    ERRORS,
    CorruptDocument,
    ExtractionError,
    ExtractionInterrupted,
    ExtractionTimeout,
)

_START_SECONDS = 30.0
# The process keeps the deadline itself; this much later it must be stuck.
_GRACE_SECONDS = 5.0
# Frames above this are decoded in a thread: the event loop must not stand still for a book.
_INLINE_BYTES = 256 * 1024


class ExtractionPool:
    """`size` warm processes, each reading one document at a time. More calls than that wait in order."""

    def __init__(self, size: int, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._slots = [_Slot(self._limits) for _ in range(size)]
        self._idle: asyncio.LifoQueue[_Slot] = asyncio.LifoQueue()

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(*(slot.process() for slot in self._slots))
        except BaseException:
            await self._close()
            raise
        for slot in self._slots:
            self._idle.put_nowait(slot)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def extract(self, path: Path, *, name: str, declared_type: str) -> Extracted:
        """Read the document at `path`; `name` and `declared_type` are hints, the bytes decide.

        Raises:
            ExtractionError: It could not be read; `permanent`, `code` and `message` say what that means.
        """
        request = frames.request(os.fspath(path), name, declared_type)
        slot = await self._idle.get()
        try:
            answer = await slot.ask(request)
        finally:
            self._idle.put_nowait(slot)
        if len(answer) > _INLINE_BYTES:
            return await asyncio.to_thread(parse_answer, answer, self._limits)
        return parse_answer(answer, self._limits)

    async def _close(self) -> None:
        await asyncio.gather(*(slot.close() for slot in self._slots))


class _Slot:
    """A place in the pool: one process, and its successor when it had to be killed."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._starting: asyncio.Task[_Process] | None = None
        self._ended: list[_Process] = []
        self._closed = False

    async def process(self) -> "_Process":
        """The slot's live process, started if need be.

        Raises:
            ExtractionInterrupted: It cannot be started, or the pool has been closed.
        """
        if self._closed:
            raise ExtractionInterrupted(detail="the pool is closed")
        try:
            # A caller that gives up must not take the process from the next one.
            process = await asyncio.shield(self._starting or self._start())
            if process.has_ended:
                self._ended.append(process)
                process = await asyncio.shield(self._start())
        except (OSError, EOFError, TimeoutError) as error:
            self._starting = None
            raise ExtractionInterrupted(detail=f"no extraction process: {error}") from error
        return process

    async def ask(self, request: bytes) -> bytes:
        # A process killed from outside was most likely killed before it took the document, so it gets a second one.
        with suppress(OSError, EOFError):
            return await self._ask_once(request)
        try:
            return await self._ask_once(request)
        except (OSError, EOFError) as error:
            raise ExtractionInterrupted(detail="the extraction process ended") from error

    async def _ask_once(self, request: bytes) -> bytes:
        process = await self.process()
        answered = False
        try:
            async with asyncio.timeout(self._limits.deadline_seconds + _GRACE_SECONDS):
                answer = await process.ask(request, self._limits.max_frame_bytes)
            answered = True
        except TimeoutError as error:
            raise ExtractionTimeout(detail="the extraction process did not answer") from error
        finally:
            if not answered:
                process.kill()
                self._ended.append(process)
                if not self._closed:
                    self._start()
        return answer

    async def close(self) -> None:
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            for result in await asyncio.gather(self._starting, return_exceptions=True):
                if isinstance(result, _Process):
                    result.kill()
                    self._ended.append(result)
        await self._reap()

    def _start(self) -> "asyncio.Task[_Process]":
        self._starting = asyncio.create_task(self._launch())
        return self._starting

    async def _launch(self) -> "_Process":
        # Nothing is awaited after the start: a cancelled launch would lose the process.
        await self._reap()
        return await _Process.start(self._limits)

    async def _reap(self) -> None:
        while self._ended:
            await self._ended[-1].reap()
            self._ended.pop()


@dataclass(slots=True)
class _Process:
    _process: asyncio.subprocess.Process
    _stdin: asyncio.StreamWriter
    _stdout: asyncio.StreamReader
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    async def start(cls, limits: Limits) -> Self:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "services.indexing.pipeline.extraction_child"),
            *(str(os.getpid()), orjson.dumps(asdict(limits)).decode()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=_environment(),
            start_new_session=True,
        )
        if process.stdin is None or process.stdout is None:
            raise OSError("the extraction process has no pipes")
        started = cls(process, process.stdin, process.stdout)
        ready = False
        try:
            async with asyncio.timeout(_START_SECONDS):
                ready = await started.answer(len(frames.READY)) == frames.READY
        finally:
            if not ready:
                started.kill()
                await started.reap()
        return started

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    async def ask(self, request: bytes, max_bytes: int) -> bytes:
        if self._stdin.is_closing():
            raise EOFError("the pipe is closed")
        self._stdin.write(frames.frame(request))
        await self._stdin.drain()
        return await self.answer(max_bytes)

    async def answer(self, max_bytes: int) -> bytes:
        async with self._reading:
            (length,) = frames.LENGTH.unpack(await self._stdout.readexactly(frames.LENGTH.size))
            if length > max_bytes:
                raise EOFError(f"a frame of {length} bytes")
            return await self._stdout.readexactly(length)

    def kill(self) -> None:
        """Kill the process and the copy that reads a document; they are one process group."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def reap(self) -> None:
        """Wait for the end of a process that has been killed, and let its pipes go."""
        self._stdin.close()
        # What it left unread would keep the pipe open.
        async with self._reading:
            await self._stdout.read()
        await self._process.wait()


def parse_answer(answer: bytes, limits: Limits) -> Extracted:
    """Check an answer, which may come from a process that a document has taken over.

    Raises:
        ExtractionError: The failure it reports, or `CorruptDocument` if it is no answer at all.
    """
    try:
        parsed = _ANSWER.validate_json(answer, strict=True)
    except ValidationError as error:
        raise CorruptDocument(detail=f"malformed answer: {error.error_count()} errors") from error
    if parsed.failure is not None:
        reported = ERRORS.get(parsed.failure.code, CorruptDocument)
        raise reported(parsed.failure.kind, detail=parsed.failure.detail)
    if parsed.extracted is None or not _is_consistent(parsed.extracted, limits):
        raise CorruptDocument(detail="inconsistent answer")
    return parsed.extracted


def _is_consistent(extracted: Extracted, limits: Limits) -> bool:
    pages = extracted.pages or ()
    length = len(extracted.text)
    return (
        0 < length <= limits.max_characters
        and "\0" not in extracted.text
        and extracted.content_type in SUPPORTED_CONTENT_TYPES
        and all(0 <= page.start <= page.end <= length for page in pages)
        and all(above.end <= below.start and above.number < below.number for above, below in pairwise(pages))
    )


@dataclass(frozen=True, slots=True)
class _Failure:
    code: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class _Answer:
    extracted: Extracted | None = None
    failure: _Failure | None = None


_ANSWER = TypeAdapter(_Answer)


def _environment() -> dict[str, str]:
    """No variable of ours: settings and secrets stay on this side."""
    return {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONUTF8": "1",
        "PYTHONNOUSERSITE": "1",
    }


__all__ = ["Extracted", "ExtractionError", "ExtractionPool", "Limits", "parse_answer"]
