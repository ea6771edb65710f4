"""Hostile code in place of a parser: what it can reach (nothing), and which layer keeps it from what."""

import ctypes
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from services.indexing.pipeline import frames
from services.indexing.pipeline.chunking import chunk
from services.indexing.pipeline.confinement import Confinement, Limits, seccomp
from services.indexing.pipeline.errors import ExtractionUnconfined
from services.indexing.pipeline.extraction import ExtractionPool
from tests.services.indexing.pipeline import hostile, samples
from tests.services.indexing.pipeline.office_samples import (
    book,
    drawn_table,
    inline_row,
    open_document,
    page,
    presentation,
    shape,
    workbook,
)
from tests.services.indexing.pipeline.processes import extraction_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel confines on Linux alone")

SECRET = b"canary-4711-of-the-service"
ORDINARY = 54321
USERS = [None, ORDINARY] if os.geteuid() == 0 else [None]
Answers = list[dict[str, object]]


@pytest.fixture(scope="module")
def target() -> Iterator[dict[str, object]]:
    """What there is to be reached, open to everybody, so that no mode of a file is what refuses it."""
    memory = ctypes.create_string_buffer(SECRET)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o777)
        for name in ("secret", "document"):
            (folder / name).write_bytes(SECRET)
            (folder / name).chmod(0o666)
        (folder / "link").symlink_to("secret")
        made = {}
        for name, family, kind, address in (
            ("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            ("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            ("unix", socket.AF_UNIX, socket.SOCK_STREAM, str(folder / "socket")),
            ("abstract", socket.AF_UNIX, socket.SOCK_STREAM, f"\0quarry-{os.getpid()}"),
        ):
            made[name] = stack.enter_context(socket.socket(family, kind))
            made[name].bind(address)
            if kind == socket.SOCK_STREAM:
                made[name].listen(100)
        (folder / "socket").chmod(0o666)
        yield {
            "pid": os.getpid(),
            "address": ctypes.addressof(memory),
            "secret": SECRET.decode(),
            "folder": str(folder),
            "secret_file": str(folder / "secret"),
            "document": str(folder / "document"),
            "link": str(folder / "link"),
            "tcp": made["tcp"].getsockname()[1],
            "udp": made["udp"].getsockname()[1],
            "unix": str(folder / "socket"),
            "abstract": f"quarry-{os.getpid()}",
        }


def attack(
    target: dict[str, object], *, layers: str | None = None, user: int | None = None, declared_type: str = ""
) -> Answers:
    """What the hostile process answers: first what confines it, then what became of one document."""
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.defpath}
    if layers is not None:
        environment["HOSTILE_LAYERS"] = layers
    if user is not None:
        environment["HOSTILE_USER"] = str(user)
    limits = orjson.dumps(asdict(Limits(deadline_seconds=60.0))).decode()
    asking, answering = socket.socketpair()
    with (
        asking,
        Path(str(target["document"])).open("rb") as document,
        subprocess.Popen(
            [sys.executable, "-m", "tests.services.indexing.pipeline.hostile", str(os.getpid()), limits],
            stdin=answering.fileno(),
            stdout=subprocess.PIPE,
            env=environment,
        ) as process,
    ):
        answering.close()
        request = frames.request(orjson.dumps(target).decode(), declared_type)
        socket.send_fds(asking, [frames.frame(request)], [document.fileno()])
        assert process.stdout is not None
        answers: Answers = []
        while not answers or not (set(answers[-1]) & {"document", "failure"}):
            (length,) = frames.LENGTH.unpack(process.stdout.read(frames.LENGTH.size))
            answers.append(orjson.loads(process.stdout.read(length)))
        asking.close()
        process.wait(timeout=30)
    return answers


def succeeded(answers: Answers) -> set[str]:
    assert "document" in answers[-1], answers
    chunks = [chunk for answer in answers[1:-1] for chunk in answer["chunks"]]  # type: ignore[attr-defined]
    tried, *names = "".join(chunk[3] for chunk in chunks).split(",")
    assert tried == "tried"
    return {name.replace("_", " ") for name in names}


@pytest.mark.parametrize("user", USERS)
def test_hostile_code_in_a_documents_process_reaches_nothing(target: dict[str, object], user: int | None) -> None:
    assert succeeded(attack(target, user=user)) == set()
    assert Path(str(target["document"])).read_bytes() == SECRET


def test_the_same_code_without_confinement_reaches_nearly_everything(target: dict[str, object]) -> None:
    # What kernels and containers refuse anyway.
    seldom = hostile.CALLS.keys() | hostile.SELDOM.keys() | {"trace", "memory", "memory file", "environment"}
    reached = succeeded(attack(target, layers="none"))
    assert hostile.ATTEMPTS.keys() - seldom <= reached
    if os.geteuid() == 0:
        assert seldom & reached >= {"trace", "memory", "memory file", "environment", "memfd", "keyring", "unshare"}


LAYERS = [
    (
        "privileges,seccomp",
        hostile.ATTEMPTS.keys() - hostile.DESCRIPTORS.keys(),
    ),
    (
        "privileges,landlock",
        hostile.FILES.keys() | {"tcp", "abstract", "signal", "trace", "memory", "signal parent"},
    ),
    ("namespaces,privileges", hostile.FILES.keys() | hostile.NETWORK.keys() | {"stat", "readlink", "unix"}),
    ("privileges,limits", {"fork", "pipe", "passwd", "write"} if os.geteuid() else {"pipe", "passwd", "write"}),
    ("privileges,descriptors", {"descriptors"}),
]


@pytest.mark.parametrize(("layers", "refused"), LAYERS, ids=[layers for layers, _ in LAYERS])
def test_a_layer_refuses_what_it_is_for_without_the_others(
    target: dict[str, object], layers: str, refused: set[str]
) -> None:
    answers = attack(target, layers=layers)
    assert set(answers[0]["layers"]) >= set(layers.split(",")), answers[0]  # type: ignore[call-overload]
    assert not succeeded(answers) & refused


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_as_root_a_document_is_read_as_nobody_who_owns_anything(target: dict[str, object]) -> None:
    answers = attack(target, layers="user,privileges")
    assert not succeeded(answers) & {"signal", "trace", "memory", "environment", "memory file", "chmod", "priority"}


def test_a_call_in_another_numbering_ends_the_process(target: dict[str, object]) -> None:
    *_, last = attack(target, declared_type="x32")
    assert last["failure"] == {"code": "corrupt_document", "kind": "", "detail": "SIGSYS"}


def test_the_filter_is_made_for_both_architectures_and_no_other() -> None:
    for machine in ("x86_64", "aarch64"):
        program = seccomp.program(machine, 1)
        assert len(program) % 8 == 0 and len(program) // 8 < 256  # a jump reaches that far
    with pytest.raises(KeyError):
        seccomp.program("riscv64", 1)


@pytest.mark.parametrize(
    ("layers", "sufficient"),
    [
        ({"seccomp", "landlock"}, True),
        ({"seccomp", "namespaces"}, True),
        ({"seccomp", "user"}, False),
        ({"landlock", "namespaces", "user"}, False),
    ],
)
def test_files_are_refused_twice_or_it_is_not_enough(layers: set[str], sufficient: bool) -> None:
    assert Confinement(dict.fromkeys(layers, "")).is_sufficient is sufficient


async def test_a_setting_decides_about_a_kernel_that_gives_less(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    note = tmp_path / "note.txt"
    note.write_text("Granite built the wall.")
    monkeypatch.setattr(Confinement, "is_sufficient", False)
    with pytest.raises(ExtractionUnconfined, match="best_effort"):
        async with ExtractionPool(1):
            pass
    async with ExtractionPool(1, required=False) as pool:
        document = await pool.extract(note, name="", declared_type="", tenant_id=uuid4())
        assert document.chunks[0].text == "Granite built the wall."
        assert not pool.confinement.is_sufficient


ENCODED = "<meta charset={}><p>{}"
SAMPLES = {
    "note.txt": "Élan naïf, Straße, 花崗岩".encode(),
    "windows.txt": "L'été à la plage, les élèves étudient près du château.".encode("cp1252"),
    "note.md": b"# Harbour\n\n* granite\n* wall\n\n    code\n",
    "big5.html": ENCODED.format("big5", "花崗岩").encode("big5"),
    "hz.html": ENCODED.format("hz", "花岗岩").encode("hz"),
    "mac.html": ENCODED.format("mac_cyrillic", "Привет мир").encode("mac_cyrillic"),
    "jis.html": ENCODED.format("shift_jisx0213", "花崗岩の壁").encode("shift_jisx0213"),
    "unknown.html": ENCODED.format("no-such", "granite \xff").encode("latin-1"),
    "report.pdf": samples.pdf("Granite built the wall.", "A second page.", title="Harbour"),
    "report.docx": samples.word_document(),
    "table.csv": b"name,tonnes\nEndeavour,40\n",
    "values.json": b'[{"name": "Fram"}]',
    "book.ipynb": b'{"nbformat": 4, "metadata": {}, "cells": [{"cell_type": "code", "source": "x = 1"}]}',
    "text.xml": b"<?xml version='1.0'?><a><b>Granite</b></a>",
    "code.py": b"def wall():\n    return 'granite'\n",
    "text.rtf": b"{\\rtf1\\ansi\\ansicpg1251 \\'cf\\'f0\\'e8}",
    "old.eml": b"From: a@b\nSubject: =?iso-2022-jp?b?GyRCMlY4RxsoQg==?=\nContent-Type: text/html; charset=koi8-r\n"
    b"Content-Transfer-Encoding: quoted-printable\nDate: Thu, 1 Jan 1970 00:00:00 +0000\n\n<p>=D7=CF=C4=C1",
    "slides.pptx": presentation(shape("Granite", placeholder="title") + drawn_table(("a", "b"))),
    "sheet.xlsx": workbook({"A": inline_row(1, "Granite")}),
    "text.odt": open_document("text", "<text:p>Granite</text:p>"),
    "book.epub": book({"a.xhtml": page("First", "Granite.")}),
}


async def test_confined_documents_read_as_they_do_unconfined(tmp_path: Path) -> None:
    async with ExtractionPool(1) as pool:
        for name, content in SAMPLES.items():
            expected = samples.read(tmp_path, content, name)
            path = tmp_path / name
            path.write_bytes(content)
            document = await pool.extract(path, name=name, declared_type="", tenant_id=uuid4())
            assert (document.content_type, document.title) == (expected.content_type, expected.title)
            assert document.chunks == chunk(
                expected.text,
                content_type=expected.content_type,
                pages=expected.pages,
                structure=expected.structure,
                title=expected.title,
            ), name


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look")
async def test_the_warm_process_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = os.urandom(16).hex()
    monkeypatch.setenv("QUARRY_INDEXING_SERVICE_SECRET", secret)
    before = extraction_processes()
    async with ExtractionPool(1):
        (warm,) = extraction_processes() - before
        assert not _remembers(warm, secret.encode())
        assert _remembers(warm, b"extraction_template")
        opened = {str(one.readlink()).partition(":")[0] for one in Path(f"/proc/{warm}/fd").iterdir()}
        assert opened <= {"/dev/null", "socket", "pipe"}


def _remembers(process: int, what: bytes) -> bool:
    with Path(f"/proc/{process}/mem").open("rb") as memory:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if not rights.startswith("rw"):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            memory.seek(start)
            if what in memory.read(end - start):
                return True
    return False
