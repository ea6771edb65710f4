"""The process that reads documents: `python -m services.indexing.pipeline.extraction_child <parent pid> <limits>`.

It imports the parsers once and never touches a document itself. For each request it forks: the copy confines itself,
reads one document, answers and ends. So every document gets a fresh process for about two milliseconds, limits count
from zero for each, nothing a hostile file leaves behind is there when the next one (perhaps another tenant's) is read,
and this process neither grows nor needs to be replaced. It has one thread, which is what makes forking it safe.

Guarantees: one answer for each request, in order, whatever becomes of the copy: crashed, out of memory, out of time,
silent or babbling. It ends when its standard input ends or its parent dies, and its copy with it.
"""

import gc
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import orjson

from services.indexing.pipeline import frames
from services.indexing.pipeline.confinement import Limits, confine, die_with_parent, volunteer_for_the_oom_killer
from services.indexing.pipeline.errors import (
    CorruptDocument,
    ExtractionError,
    ExtractionInterrupted,
    ExtractionOutOfMemory,
    ExtractionTimeout,
)
from services.indexing.pipeline.formats import extract_document, warm_up

_READ_BYTES = 1 << 20
_OUT_OF_MEMORY = frames.failure(ExtractionOutOfMemory())


def main() -> None:
    die_with_parent(int(sys.argv[1]))
    limits = Limits(**orjson.loads(sys.argv[2]))
    requests, responses = os.dup(0), os.dup(1)
    warm_up()
    volunteer_for_the_oom_killer()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    # The parsers' objects stay on pages shared with every copy instead of being moved by its collector.
    gc.collect()
    gc.freeze()
    serve(requests, responses, limits)


def serve(requests: int, responses: int, limits: Limits) -> None:
    """Answer requests until there are no more."""
    _write(responses, frames.frame(frames.READY))
    while (request := _read_request(requests)) is not None:
        _write(responses, frames.frame(_in_a_copy(request, requests, responses, limits)))


def _in_a_copy(request: bytes, requests: int, responses: int, limits: Limits) -> bytes:
    reading, writing = os.pipe()
    this = os.getpid()
    copy = os.fork()
    if not copy:
        # A copy that could write to `responses` could answer for the next document.
        for descriptor in (reading, requests, responses):
            os.close(descriptor)
        die_with_parent(this)
        _answer_and_end(request, writing, limits)
    os.close(writing)
    return supervise(copy, reading, requests, limits)


def _answer_and_end(request: bytes, answers: int, limits: Limits) -> NoReturn:
    try:
        confine(limits)
        _write(answers, frames.frame(read_document(request, limits)))
    finally:
        os._exit(0)


def read_document(request: bytes, limits: Limits) -> bytes:
    """The answer to a request, whatever the parsers do."""
    try:
        asked = orjson.loads(request)
        extracted = extract_document(
            Path(asked["path"]),
            name=asked["name"],
            declared_type=asked["declared_type"],
            max_characters=limits.max_characters,
        )
        return frames.success(extracted)
    except ExtractionError as error:
        return frames.failure(error)
    except MemoryError:
        return _OUT_OF_MEMORY
    except Exception as error:  # noqa: BLE001
        # The formats name the exceptions they know. Whatever else a parser raises, it choked on this document.
        return frames.failure(CorruptDocument(detail=f"{type(error).__name__}: {error}"))


def supervise(copy: int, reading: int, requests: int, limits: Limits) -> bytes:
    """Take a copy's answer, or find out why there is none. The copy is dead and reaped afterwards."""
    deadline = time.monotonic() + limits.deadline_seconds
    answer = bytearray()
    missing = frames.LENGTH.size
    complete = timed_out = False
    while not complete and not timed_out:
        ready = _wait(reading, requests, deadline)
        if requests in ready:
            # Nobody waits for the answer any more.
            os.kill(copy, signal.SIGKILL)
            sys.exit()
        timed_out = reading not in ready
        if timed_out:
            break
        received = os.read(reading, min(missing, _READ_BYTES))
        if not received:
            break
        answer += received
        missing -= len(received)
        if len(answer) == frames.LENGTH.size:
            (missing,) = frames.LENGTH.unpack(answer)
            if missing > limits.max_frame_bytes:
                break
        complete = not missing
    os.close(reading)
    # Killing what has already ended changes nothing; its status is its own.
    os.kill(copy, signal.SIGKILL)
    _, status, usage = os.wait4(copy, 0)
    if complete:
        return bytes(answer[frames.LENGTH.size :])
    return frames.failure(ExtractionTimeout() if timed_out else _cause_of_death(status, usage, limits))


def _wait(reading: int, requests: int, deadline: float) -> dict[int, int]:
    """Wait for bytes to read, for the end of requests, or for the deadline: then the answer is empty."""
    waiting = select.poll()
    waiting.register(reading, select.POLLIN)
    waiting.register(requests, 0)
    return dict(waiting.poll(max(deadline - time.monotonic(), 0) * 1000))


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


def _read_request(requests: int) -> bytes | None:
    header = _read_exactly(requests, frames.LENGTH.size)
    if header is None:
        return None
    return _read_exactly(requests, *frames.LENGTH.unpack(header))


def _read_exactly(descriptor: int, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        received = os.read(descriptor, min(size - len(data), _READ_BYTES))
        if not received:
            return None
        data += received
    return bytes(data)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


if __name__ == "__main__":
    main()
