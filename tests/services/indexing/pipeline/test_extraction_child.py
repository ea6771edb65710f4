"""The process that reads documents: how it supervises its copies, tested with copies that misbehave."""

import os
import signal
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
from tests.services.indexing.pipeline.samples import pdf

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
        answer = extraction_child.supervise(copy.pid, reading, requests, limits)
    finally:
        os.close(requests)
        os.close(keep_open)
        copy.returncode = 0  # reaped by supervise
    decoded: dict[str, dict[str, str]] = orjson.loads(answer)
    return decoded


def test_an_answer_in_pieces_is_put_together() -> None:
    script = """answer = b'{"extracted": {}}'
os.write(answers, struct.pack(">I", len(answer))[:2])
os.write(answers, struct.pack(">I", len(answer))[2:] + answer[:5])
os.write(answers, answer[5:])
time.sleep(100)"""
    assert supervised(f"exec({script!r})") == {"extracted": {}}


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
        ("time.sleep(100)", replace(LIMITS, deadline_seconds=0.2), "extraction_timeout"),
        (
            "os.write(answers, struct.pack('>I', 10)); time.sleep(100)",
            replace(LIMITS, deadline_seconds=0.5),
            "extraction_timeout",
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


def test_requests_are_answered_in_order_until_they_end(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("Granite built the wall.", encoding="utf-8")
    request = frames.frame(frames.request(str(note), "note.txt", ""))
    missing = frames.frame(frames.request(str(tmp_path / "missing"), "", ""))
    limits = orjson.dumps(asdict(LIMITS)).decode()
    with subprocess.Popen(
        [sys.executable, "-m", "services.indexing.pipeline.extraction_child", str(os.getpid()), limits],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(request + missing + request)
        process.stdin.flush()
        answers = [_frame(process.stdout) for _ in range(4)]
        process.stdin.write(b"\0\0")
        process.stdin.close()
        assert process.wait(timeout=30) == 0
        assert process.stderr.read() == b""
    assert answers[0] == {}
    assert [list(answer) for answer in answers[1:]] == [["extracted"], ["failure"], ["extracted"]]
    assert answers[1] == answers[3]


def test_the_end_of_requests_ends_a_document_at_work() -> None:
    reading, writing = os.pipe()
    requests, asking = os.pipe()
    copy = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], pass_fds=[writing])
    os.close(writing)
    os.close(asking)
    with pytest.raises(SystemExit):
        extraction_child.supervise(copy.pid, reading, requests, LIMITS)
    assert copy.wait(timeout=10) == -signal.SIGKILL
    os.close(reading)
    os.close(requests)


def test_a_copy_is_confined() -> None:
    script = """
import json, os, resource
from services.indexing.pipeline.confinement import Limits, confine, die_with_parent
die_with_parent(os.getppid())
confine(Limits(open_files=64))
names = ("AS", "CPU", "FSIZE", "NOFILE", "CORE", "NPROC")
print(json.dumps({name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60)
    assert orjson.loads(done.stdout) == {
        "AS": [1 << 30, 1 << 30],
        "CPU": [60, 61],
        "FSIZE": [0, 0],
        "NOFILE": [64, 64],
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
from services.indexing.pipeline.confinement import Limits, confine
resource.setrlimit(resource.RLIMIT_NOFILE, (10, 10))
confine(Limits())
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60)
    assert done.stdout == b"(10, 10)\n"


def test_a_request_becomes_an_answer_whatever_the_parser_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf("Granite."))
    request = frames.request(str(path), "report.pdf", "")
    assert orjson.loads(extraction_child.read_document(request, LIMITS))["extracted"]["text"] == "Granite."
    for raised, code in ((KeyError("rId7"), "corrupt_document"), (MemoryError(), "extraction_out_of_memory")):
        monkeypatch.setattr(extraction_child, "extract_document", _raising(raised))
        assert orjson.loads(extraction_child.read_document(request, LIMITS))["failure"]["code"] == code


def test_forking_is_safe_because_there_is_one_thread() -> None:
    script = """
import os
from services.indexing.pipeline.formats import warm_up
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
