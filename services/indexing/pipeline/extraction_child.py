"""A process that reads documents, forked from the template of its pool (see `extraction_template`).

It gives up what reading does not need, and never touches a document itself. For each request it forks: the copy maps
the document it was handed, confines itself, reads, sends its result and ends. So every document gets a fresh process at
a cost of about two milliseconds, limits count from zero for each, nothing that a hostile file leaves behind is there
when the next one (perhaps another tenant's) is read, and this process neither grows nor needs to be replaced. It has
one thread, which is what makes forking it safe.

Guarantees: one reply for each request, in order, whatever happens to the copy: crashed, out of memory, out of time,
silent, sending garbage or no longer wanted. It ends when its requests end or its parent dies, and its copy with it. It
reports, once, a copy that has taken more processor time than a short document; from then on, or from the beginning if
requested, the copy gives way to everything else on the machine. A pause counts towards no limit.
"""

import math
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import NoReturn

import orjson

from services.indexing.pipeline import formats, frames
from services.indexing.pipeline.chunking import chunk
from services.indexing.pipeline.confinement import (
    Confinement,
    Limits,
    confine,
    die_with_parent,
    give_way,
    retire,
    volunteer_for_the_oom_killer,
)
from services.indexing.pipeline.documents import MARKDOWN, PLAIN_TEXT
from services.indexing.pipeline.errors import (
    CorruptDocument,
    DocumentTooLarge,
    EmptyDocument,
    ExtractionError,
    ExtractionInterrupted,
    ExtractionOutOfMemory,
    ExtractionTimeout,
    ExtractionUnconfined,
)
from services.indexing.pipeline.formats import extract_document
from services.indexing.pipeline.memory_files import mapped

_READ_BYTES = 1 << 20
_TICK_SECONDS = 0.02
_REFUSED = b"{}"
_OUT_OF_MEMORY = frames.failure(ExtractionOutOfMemory())


def run(parent: int, requests: socket.socket, responses: int, limits: Limits) -> None:
    """Be the process: `warm_up` has been called, and there is one thread."""
    die_with_parent(parent)
    # Of its own, to be killed as a whole.
    os.setpgid(0, 0)
    volunteer_for_the_oom_killer()
    confinement = retire()
    # A change of user has cleared it in the kernel.
    die_with_parent(parent)
    serve(requests, responses, limits, confinement)


def serve(requests: socket.socket, responses: int, limits: Limits, confinement: Confinement) -> None:
    """Serve requests until there are no more."""
    confinement = _tried(confinement, limits)
    _write(responses, frames.frame(frames.ready(confinement)))
    dying: list[int] = []
    while (received := _receive_request(requests)) is not None:
        request, document = received
        _reap(dying)
        try:
            reading = partial(read_document, request, limits)
            polite = frames.gives_way(request)
            for payload in _in_a_copy(reading, document, requests, limits, confinement, dying, polite=polite):
                _write(responses, frames.frame(payload))
        finally:
            os.close(document)


def warm_up() -> None:
    """Load what reading takes."""
    formats.warm_up()
    chunk("# Warm up\n\nText.", content_type=MARKDOWN)
    chunk("Warm up. Text.", content_type=PLAIN_TEXT)


def _tried(confinement: Confinement, limits: Limits) -> Confinement:
    """The layers that are in force in a copy: one tries forbidden operations."""
    if "seccomp" not in confinement.layers:
        return confinement
    # Requests may arrive already, and must wait.
    nobody, requests = socket.socketpair()
    with nobody, requests:
        outcome = b"".join(_in_a_copy(_try_the_forbidden, None, requests, limits, confinement, []))
    if outcome == _REFUSED:
        return confinement
    layers = {layer: what for layer, what in confinement.layers.items() if layer != "seccomp"}
    return replace(confinement, layers=layers, missing={**confinement.missing, "seccomp": outcome.decode()})


def _try_the_forbidden(_: memoryview) -> Iterator[bytes]:
    for attempt in (partial(os.stat, "/"), partial(os.listdir, "/"), partial(os.kill, os.getppid(), 0), os.pipe):
        with suppress(OSError):
            attempt()
            raise ExtractionUnconfined(detail=f"{attempt} was allowed")
    yield _REFUSED


def _in_a_copy(
    work: Callable[[memoryview], Iterable[bytes]],
    document: int | None,
    requests: socket.socket,
    limits: Limits,
    confinement: Confinement,
    dying: list[int],
    *,
    polite: bool = False,
) -> Iterator[bytes]:
    reading, writing = os.pipe()
    this = os.getpid()
    copy = os.fork()
    if not copy:
        die_with_parent(this)
        _answer_and_end(work, document, writing, limits, confinement)
    os.close(writing)
    if polite:
        give_way(copy)
    return supervise(copy, reading, requests.fileno(), limits, dying)


def _answer_and_end(
    work: Callable[[memoryview], Iterable[bytes]],
    document: int | None,
    answers: int,
    limits: Limits,
    confinement: Confinement,
) -> NoReturn:
    try:
        try:
            content = memoryview(b"") if document is None else mapped(document)
            # A copy that could write to `responses` could forge the next document's result.
            confine(confinement, limits.for_document(len(content)), answers=answers, document_bytes=len(content))
        except OSError as error:
            raise ExtractionUnconfined(detail=str(error)) from error
        for payload in work(content):
            _write(answers, frames.frame(payload))
    except ExtractionError as error:
        _write(answers, frames.frame(frames.failure(error)))
    finally:
        os._exit(0)


def read_document(request: bytes, limits: Limits, content: memoryview) -> Iterator[bytes]:
    """The reply to a request, whatever the parsers do."""
    try:
        asked = orjson.loads(request)
        extracted = extract_document(
            content,
            name=asked["name"],
            declared_type=asked["declared_type"],
            max_characters=limits.max_characters,
        )
        chunks = chunk(
            extracted.text,
            content_type=extracted.content_type,
            pages=extracted.pages,
            structure=extracted.structure,
            title=extracted.title,
        )
        if len(chunks) > limits.max_chunks:
            raise DocumentTooLarge(detail=f"{len(chunks)} chunks")
        if not chunks:
            raise EmptyDocument(detail="no words")
        yield from frames.success(extracted, chunks)
    except ExtractionError as error:
        yield frames.failure(error)
    except MemoryError:
        yield _OUT_OF_MEMORY
    except Exception as error:  # noqa: BLE001
        # The formats handle the exceptions they know. Any other one of a parser means that this document broke it.
        yield frames.failure(CorruptDocument(detail=f"{type(error).__name__}: {error}"))


def supervise(copy: int, reading: int, requests: int, limits: Limits, dying: list[int]) -> Iterator[bytes]:
    """Pass on what a copy sends, or find out why it sends nothing. The copy is dead and reaped afterwards.

    A cancelled one joins the `dying`: it may have the lowest priority, and ends when the kernel gives it time.
    """
    answer = _Answer(copy, reading, requests, limits)
    last = b""
    for payload in answer.payloads():
        last = payload
        yield payload
    os.close(reading)
    # Killing a copy that has already ended does not change its status.
    os.kill(copy, signal.SIGKILL)
    if answer.cancelled:
        dying.append(copy)
        yield frames.failure(ExtractionInterrupted(detail="cancelled"))
        return
    _, status, usage = os.wait4(copy, 0)
    if last and frames.is_last(last):
        return
    if not answer.timed_out:
        yield frames.failure(_cause_of_death(status, usage, limits))
    else:
        yield frames.failure(cause_of_delay(usage.ru_utime + usage.ru_stime, limits))


class _Answer:
    """The output of a copy until its result ends, the copy ends, or a limit stops it."""

    def __init__(self, copy: int, reading: int, requests: int, limits: Limits) -> None:
        self._copy = copy
        self._reading = reading
        self._requests = requests
        self._began = time.monotonic()
        self._limits = limits
        self._remaining = limits.max_answer_bytes
        self._short = True
        self._paused: float | None = None
        self.timed_out = False
        self.cancelled = False

    def payloads(self) -> Iterator[bytes]:
        while header := self._exactly(frames.LENGTH.size):
            (length,) = frames.LENGTH.unpack(header)
            self._remaining -= length
            if length > frames.MAX_BYTES or self._remaining < 0:
                return
            payload = self._exactly(length)
            if not payload:
                return
            yield payload
            if frames.is_last(payload):
                return

    def _exactly(self, size: int) -> bytes:
        """Exactly `size` bytes; none when fewer arrive."""
        received = bytearray()
        while len(received) < size:
            piece = self._some(size - len(received))
            if not piece:
                return b""
            received += piece
        return bytes(received)

    def _some(self, most: int) -> bytes:
        while True:
            waited = (self._paused or time.monotonic()) - self._began
            if waited >= self._limits.deadline_seconds:
                self.timed_out = True
                return b""
            seconds = self._limits.deadline_seconds - waited
            if self._short:
                seconds = min(seconds, max(self._limits.short_seconds - _processor_seconds(self._copy), _TICK_SECONDS))
            ready = _wait(self._reading, self._requests, seconds)
            if self._requests in ready:
                match os.read(self._requests, len(frames.CANCEL)):
                    case frames.CANCEL:
                        self.cancelled = True
                        return b""
                    case frames.PAUSE:
                        self._pause()
                    case frames.GO_ON:
                        self._go_on()
                    case _:
                        # Requests have ended, and no caller waits for a result.
                        os.kill(self._copy, signal.SIGKILL)
                        sys.exit()
                continue
            if self._reading in ready:
                return os.read(self._reading, min(most, _READ_BYTES))
            if self._short and _processor_seconds(self._copy) >= self._limits.short_seconds:
                self._short = False
                give_way(self._copy)
                with suppress(OSError):  # no caller waits for the result any more
                    os.write(self._requests, frames.TAKES_LONG)

    def _pause(self) -> None:
        if self._paused is None:
            os.kill(self._copy, signal.SIGSTOP)
            self._paused = time.monotonic()

    def _go_on(self) -> None:
        if self._paused is not None:
            self._began += time.monotonic() - self._paused
            self._paused = None
            os.kill(self._copy, signal.SIGCONT)


def _processor_seconds(process: int) -> float:
    """Processor time a child has had so far; on a busy machine more wall-clock time has passed."""
    if sys.platform != "linux":
        return math.inf
    # As clock_getcpuclockid(3) names the clock of a process.
    return time.clock_gettime(~process << 3 | 2)


def _wait(reading: int, requests: int, seconds: float) -> dict[int, int]:
    """Wait for bytes to read, a cancellation or the end of requests; empty after `seconds` without any."""
    waiting = select.poll()
    waiting.register(reading, select.POLLIN)
    waiting.register(requests, select.POLLIN)
    return dict(waiting.poll(max(seconds, 0) * 1000))


def cause_of_delay(cpu: float, limits: Limits) -> ExtractionError:
    """Parsers never sleep: what a copy did not spend working, it waited for a processor or for the disk."""
    if cpu < limits.deadline_seconds / 2:
        # The machine was busy with other work, which says nothing about the document.
        return ExtractionInterrupted(detail=f"{cpu:.1f} s of processor time until the deadline")
    return ExtractionTimeout()


def _cause_of_death(status: int, usage: resource.struct_rusage, limits: Limits) -> ExtractionError:
    cpu = usage.ru_utime + usage.ru_stime
    if not os.WIFSIGNALED(status):
        return CorruptDocument(detail=f"ended without an answer, status {os.waitstatus_to_exitcode(status)}")
    name = signal.Signals(os.WTERMSIG(status)).name
    if name == "SIGXCPU" or (name == "SIGKILL" and cpu >= limits.cpu_seconds):
        return ExtractionTimeout(detail=f"{cpu:.1f} s of processor time")
    if name in {"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"}:
        return ExtractionInterrupted(detail=name)
    # Native parsers abort or fault when an allocation is refused: near the limit, that is the likelier reason.
    if usage.ru_maxrss * 1024 >= limits.memory_bytes // 2:
        return ExtractionOutOfMemory(detail=name)
    return CorruptDocument(detail=name)


def _receive_request(requests: socket.socket) -> tuple[bytes, int] | None:
    header, descriptors, _, _ = socket.recv_fds(requests, frames.LENGTH.size, 1)
    while header in (frames.CANCEL, frames.PAUSE, frames.GO_ON):
        # It came too late: that request had its result.
        header, descriptors, _, _ = socket.recv_fds(requests, frames.LENGTH.size, 1)
    if not descriptors:
        return None
    request = b""
    if len(header) == frames.LENGTH.size:
        (length,) = frames.LENGTH.unpack(header)
        request = requests.recv(length, socket.MSG_WAITALL)
    return request, descriptors[0]


def _reap(dying: list[int]) -> None:
    """Reap killed copies. At most one that has not ended is left, because each still holds its memory."""
    while dying and os.waitpid(dying[0], 0 if len(dying) > 1 else os.WNOHANG) != (0, 0):
        del dying[0]


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
