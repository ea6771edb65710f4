"""The process that reads documents: how it supervises its copies, tested with copies that misbehave."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

import orjson
import pytest

from services.indexing.pipeline import extraction_child, frames
from services.indexing.pipeline.confinement import Limits
from services.indexing.pipeline.errors import ExtractionInterrupted, ExtractionTimeout
from tests.services.indexing.pipeline.samples import pdf

PROCESS = """
import json, os, socket, sys
from services.indexing.pipeline import extraction_child
from services.indexing.pipeline.confinement import Limits
limits = Limits(**json.loads(sys.argv[2]))
extraction_child.run(int(sys.argv[1]), socket.socket(fileno=os.dup(0)), os.dup(1), limits)
"""
LIMITS = Limits(memory_bytes=64 * 1024 * 1024 * 1024, deadline_seconds=20.0)


def supervised(script: str, limits: Limits = LIMITS) -> dict[str, dict[str, str]]:
    """What is answered for a copy that runs `script`, with the descriptor `answers` to write to."""
    reading, writing = os.pipe()
    requests, keep_open = os.pipe()
    copy = subprocess.Popen(
        [sys.executable, "-c", f"import os, signal, struct, time; answers = {writing}; {script}"], pass_fds=[writing]
    )
    os.close(writing)
    try:
        *_, answer = extraction_child.supervise(copy.pid, reading, requests, limits, [])
    finally:
        os.close(requests)
        os.close(keep_open)
        copy.returncode = 0  # reaped by supervise
    decoded: dict[str, dict[str, str]] = orjson.loads(answer)
    return decoded


def test_an_answer_in_pieces_is_put_together() -> None:
    script = """answer = b'{"document": {}}'
os.write(answers, struct.pack(">I", len(answer))[:2])
os.write(answers, struct.pack(">I", len(answer))[2:] + answer[:5])
os.write(answers, answer[5:])
time.sleep(100)"""
    assert supervised(f"exec({script!r})") == {"document": {}}


@pytest.mark.parametrize(
    ("script", "limits", "code"),
    [
        ("pass", LIMITS, "corrupt_document"),
        ("os._exit(3)", LIMITS, "corrupt_document"),
        ("os.write(answers, b'ab')", LIMITS, "corrupt_document"),
        ("os.write(answers, struct.pack('>I', 10) + b'cut')", LIMITS, "corrupt_document"),
        ("os.write(answers, b'\\xff' * 9999); time.sleep(100)", LIMITS, "extraction_interrupted"),
        ("os.close(answers); time.sleep(100)", LIMITS, "extraction_interrupted"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", LIMITS, "corrupt_document"),
        ("os.kill(os.getpid(), signal.SIGKILL)", LIMITS, "extraction_interrupted"),
        ("os.kill(os.getpid(), signal.SIGTERM)", LIMITS, "extraction_interrupted"),
        ("os.kill(os.getpid(), signal.SIGXCPU)", LIMITS, "extraction_timeout"),
        ("os.kill(os.getpid(), signal.SIGKILL)", replace(LIMITS, cpu_seconds=0), "extraction_timeout"),
        ("os.kill(os.getpid(), signal.SIGABRT)", replace(LIMITS, memory_bytes=9_000_000), "extraction_out_of_memory"),
        ("time.sleep(100)", replace(LIMITS, deadline_seconds=0.2), "extraction_interrupted"),
        (
            "os.write(answers, struct.pack('>I', 10)); time.sleep(100)",
            replace(LIMITS, deadline_seconds=0.5),
            "extraction_interrupted",
        ),
    ],
)
def test_a_copy_without_an_answer_is_explained(script: str, limits: Limits, code: str) -> None:
    assert (
        supervised(f"resource = __import__('resource'); resource.setrlimit(4, (0, 0)); {script}", limits)["failure"][
            "code"
        ]
        == code
    )


@pytest.mark.parametrize(("cpu", "expected"), [(0.9, ExtractionInterrupted), (1.1, ExtractionTimeout)])
def test_a_copy_that_got_no_processor_until_the_deadline_is_not_to_blame(cpu: float, expected: type[Exception]) -> None:
    assert type(extraction_child.cause_of_delay(cpu, replace(LIMITS, deadline_seconds=2.0))) is expected


def test_requests_are_answered_in_order_until_they_end(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("Granite built the wall.", encoding="utf-8")
    request = frames.frame(frames.request("note.txt", ""))
    limits = orjson.dumps(asdict(LIMITS)).decode()
    asking, answering = socket.socketpair()
    with (
        asking,
        note.open("rb") as document,
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(os.getpid()), limits],
            stdin=answering.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        answering.close()
        assert process.stdout and process.stderr
        answers = [_frame(process.stdout)]
        for descriptor, frames_of_answer in ((document.fileno(), 2), (asking.fileno(), 1), (document.fileno(), 2)):
            socket.send_fds(asking, [request], [descriptor])
            answers += [_frame(process.stdout) for _ in range(frames_of_answer)]
        asking.send(b"\0\0")
        asking.close()
        assert process.wait(timeout=30) == 0
        assert process.stderr.read() == b""
    assert list(answers[0]) == ["layers", "missing"]
    read = [["chunks"], ["document"]]
    assert [list(answer) for answer in answers[1:]] == [*read, ["failure"], *read]
    assert answers[1] == answers[4]


def test_the_end_of_requests_ends_a_document_at_work() -> None:
    reading, writing = os.pipe()
    requests, asking = os.pipe()
    copy = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], pass_fds=[writing])
    os.close(writing)
    os.close(asking)
    with pytest.raises(SystemExit):
        list(extraction_child.supervise(copy.pid, reading, requests, LIMITS, []))
    assert copy.wait(timeout=10) == -signal.SIGKILL
    os.close(reading)
    os.close(requests)


def test_a_copy_is_confined() -> None:
    script = """
import json, os, resource
from services.indexing.pipeline.confinement import Confinement, Limits, confine, die_with_parent
die_with_parent(os.getppid())
confine(Confinement(), Limits(), answers=1, document_bytes=4096)
names = ("AS", "CPU", "FSIZE", "NOFILE", "CORE", "NPROC")
print(json.dumps({name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60)
    assert orjson.loads(done.stdout) == {
        "AS": [(1 << 30) + 4096, (1 << 30) + 4096],
        "CPU": [60, 61],
        "FSIZE": [0, 0],
        "NOFILE": [0, 0],
        "CORE": [0, 0],
        "NPROC": [0, 0],
    }


def test_an_orphan_ends_at_once() -> None:
    script = "from services.indexing.pipeline.confinement import die_with_parent; die_with_parent(1); print('alive')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60)
    assert done.stdout == b""


def test_limits_are_not_raised_above_what_is_allowed() -> None:
    script = """
import resource
from services.indexing.pipeline.confinement import Confinement, Limits, confine
resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
confine(Confinement(), Limits(), answers=1, document_bytes=0)
print(resource.getrlimit(resource.RLIMIT_CPU))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60)
    assert done.stdout == b"(10, 10)\n"


def test_a_request_becomes_an_answer_whatever_the_parser_does(monkeypatch: pytest.MonkeyPatch) -> None:
    document = memoryview(pdf("Granite."))
    request = frames.request("report.pdf", "")
    first, _ = extraction_child.read_document(request, LIMITS, document)
    assert orjson.loads(first) == {"chunks": [[0, 8, 1, "Granite.", {"page": 1}, ""]]}
    for raised, code in ((KeyError("rId7"), "corrupt_document"), (MemoryError(), "extraction_out_of_memory")):
        monkeypatch.setattr(extraction_child, "extract_document", _raising(raised))
        (answer,) = extraction_child.read_document(request, LIMITS, document)
        assert orjson.loads(answer)["failure"]["code"] == code


def test_forking_is_safe_because_there_is_one_thread() -> None:
    script = """
import os
from services.indexing.pipeline.extraction_child import warm_up
warm_up()
print(len(os.listdir("/proc/self/task")))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60)
    assert done.stdout == b"1\n"


def _raising(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def _frame(stream: IO[bytes]) -> dict[str, object]:
    (length,) = frames.LENGTH.unpack(stream.read(frames.LENGTH.size))
    decoded: dict[str, object] = orjson.loads(stream.read(length))
    return decoded


def test_a_small_document_may_not_ask_for_the_time_of_a_book() -> None:
    sizes = {55_000: 15, 2**20: 20, 4 * 2**20: 35, 2**30: 60}
    assert {size: Limits().for_document(size).cpu_seconds for size in sizes} == sizes
    assert replace(LIMITS, cpu_seconds=2).for_document(2**30).cpu_seconds == 2
