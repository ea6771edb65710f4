"""A parser that a document has taken over: `python -m tests.services.indexing.pipeline.hostile <pid> <limits>`.

The process is the product's (`extraction_child.run`); only what it reads documents with is replaced, by everything
that code of an attacker might try. The document's name tells it, as JSON, what there is to be reached; the text it
reports is the names of the attempts that succeeded. Started with `HOSTILE_LAYERS`, it has only those layers; with
`HOSTILE_USER`, it becomes that user first, once everything is imported.
"""

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from services.indexing.pipeline import confinement, extraction_child
from services.indexing.pipeline.confinement import kernel, limits
from services.indexing.pipeline.documents import PLAIN_TEXT, Extracted

# Raises OSError or returns False when it failed.
Attempt = Callable[[dict[str, Any]], object]

# Whatever the kernel answers to arguments as bad as these, it has let the call through.
_NUMBERS: dict[str, tuple[Any, ...]] = {
    "exec": (59, b"/nowhere/at/all", None, None),
    "memfd": (319, b"hidden", 0),
    "io_uring": (425, 1, ctypes.create_string_buffer(120)),
    "bpf": (321, 0, None, 0),
    "perf": (298, None, 0, -1, -1, 0),
    "userfaultfd": (323, 1),
    "keyring": (250, 0, -3, 1),
    "mount": (165, b"none", b"/nowhere/at/all", b"tmpfs", 0, None),
    "unshare": (272, 0x10000000),
    "setns": (308, 0, 0),
    "timer": (222, 1, None, ctypes.create_string_buffer(8)),
    "shared memory": (29, 0, 4096, 0o1600),
    "inotify": (253,),
    "eventfd": (290, 0, 0),
    "openat2": (437, -100, b"/nowhere/at/all", ctypes.create_string_buffer(24), 24),
    "name_to_handle": (303, -100, b"/nowhere/at/all", None, None, 0),
    "chroot": (161, b"/nowhere/at/all"),
    "module": (175, None, 0, b""),
    "personality": (135, 0xFFFFFFFF),
    "swap": (167, b"/nowhere/at/all", 0),
    "quota": (179, 0x800001, None, 0, None),
    "message queue": (68, 0, 0o1600),
    "clone3": (435, None, 0),
    "dumpable": (157, 4, 1, 0, 0, 0),
    "pidfd_getfd": (438, -1, 0, 0),
    "kexec": (246, 0, 0, None, 0),
    "syslog": (103, 10, None, 0),
    "acct": (163, b"/nowhere/at/all"),
    "process_madvise": (440, -1, None, 0, 0, 0),
    "migrate": (256, 0, 0, None, None),
    "hostname": (170, b"", -1),
    "clock": (227, 99, None),
}


def reach_the_kernel(number: int, *arguments_and_target: object) -> bool:
    """Whether the kernel looked at the arguments, and did not refuse the caller."""
    try:
        kernel.system_call(number, *arguments_and_target[:-1])
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def read_memory_of(target: dict[str, Any]) -> bytes:
    size = len(target["secret"])
    read = ctypes.create_string_buffer(size)
    here = struct.pack("PN", ctypes.addressof(read), size)
    there = struct.pack("PN", target["address"], size)
    kernel.system_call(310, target["pid"], ctypes.c_char_p(here), 1, ctypes.c_char_p(there), 1, 0)
    return read.raw


def read_file(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    with _closing(descriptor):
        return os.read(descriptor, 100) or b"empty"


def write_file(path: str) -> bool:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with _closing(descriptor):
        return os.write(descriptor, b"x") == 1


def foreign_memory(target: dict[str, Any]) -> bytes:
    descriptor = os.open(f"/proc/{target['pid']}/mem", os.O_RDONLY)
    with _closing(descriptor):
        return os.pread(descriptor, 16, target["address"])


def open_socket(family: int, kind: int, work: Callable[[socket.socket], object]) -> bool:
    with socket.socket(family, kind) as made:
        made.settimeout(1)
        work(made)
    return True


def trace(target: dict[str, Any]) -> bool:
    kernel.system_call(101, 0x4206, target["pid"], 0, 0)  # PTRACE_SEIZE, which does not stop it
    kernel.call("kill", target["pid"], 0)
    return True


def queue_signal(process: int) -> bool:
    return kernel.system_call(129, process, 0, ctypes.c_char_p(struct.pack("iii116x", 0, 0, -1))) == 0


def open_pair(_: dict[str, Any]) -> None:
    for end in socket.socketpair():
        end.close()


def open_pipe(_: dict[str, Any]) -> None:
    for end in os.pipe():
        os.close(end)


def fork(_: dict[str, Any]) -> bool:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return True


def open_descriptors(_: dict[str, Any]) -> bool:
    """Whether there is any but the one the answer goes to."""
    found = 0
    for descriptor in range(1024):
        with suppress(OSError):
            os.write(descriptor, b"")
            found += 1
    return found > 1


def truncate_what_is_open(_: dict[str, Any]) -> bool:
    for descriptor in range(1024):
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            return True
    return False


def execute_memory(_: dict[str, Any]) -> bool:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    return True


FILES: dict[str, Attempt] = {
    "passwd": lambda _: read_file("/etc/passwd"),
    "secret file": lambda target: read_file(target["secret_file"]),
    "environment": lambda target: read_file(f"/proc/{target['pid']}/environ"),
    "own maps": lambda _: read_file("/proc/self/status"),
    "memory file": foreign_memory,
    "listing": lambda target: list(Path(target["folder"]).iterdir()),
    "write": lambda target: write_file(f"{target['folder']}/written"),
    "truncate": lambda target: os.truncate(target["document"], 1),
    "make": lambda target: Path(f"{target['folder']}/{os.getpid()}").mkdir(),
}
METADATA: dict[str, Attempt] = {
    "stat": lambda target: Path(target["secret_file"]).stat(),
    "readlink": lambda target: Path(target["link"]).readlink(),
    "chmod": lambda target: Path(target["document"]).chmod(0o644),
    "utime": lambda target: os.utime(target["document"]),
}
NETWORK: dict[str, Attempt] = {
    "tcp": lambda target: open_socket(
        socket.AF_INET, socket.SOCK_STREAM, lambda it: it.connect(("127.0.0.1", target["tcp"]))
    ),
    "udp": lambda target: open_socket(
        socket.AF_INET, socket.SOCK_DGRAM, lambda it: it.sendto(b"x", ("127.0.0.1", target["udp"]))
    ),
    "abstract": lambda target: open_socket(
        socket.AF_UNIX, socket.SOCK_STREAM, lambda it: it.connect("\0" + target["abstract"])
    ),
}
SOCKETS: dict[str, Attempt] = {
    "unix": lambda target: open_socket(socket.AF_UNIX, socket.SOCK_STREAM, lambda it: it.connect(target["unix"])),
    "listen": lambda _: open_socket(socket.AF_UNIX, socket.SOCK_STREAM, lambda it: it.bind("\0quarry-hostile")),
    "raw": lambda _: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "socketpair": open_pair,
}
PROCESSES: dict[str, Attempt] = {
    "signal": lambda target: os.kill(target["pid"], 0),
    "trace": trace,
    "memory": read_memory_of,
}
OTHERS: dict[str, Attempt] = {
    "signal parent": lambda _: os.kill(os.getppid(), 0),
    "pidfd": lambda target: os.close(os.pidfd_open(target["pid"])),
    "prlimit": lambda target: resource.prlimit(target["pid"], resource.RLIMIT_NOFILE),
    "priority": lambda target: os.setpriority(os.PRIO_PROCESS, target["pid"], 0),
    "affinity": lambda target: os.sched_getaffinity(target["pid"]),
    "execute memory": execute_memory,
    "thread signal": lambda target: kernel.system_call(234, target["pid"], target["pid"], 0),
    "queue signal": lambda target: queue_signal(target["pid"]),
}
STARTS: dict[str, Attempt] = {"fork": fork, "pipe": open_pipe}
DESCRIPTORS: dict[str, Attempt] = {"descriptors": open_descriptors}
SELDOM: dict[str, Attempt] = {"ftruncate": truncate_what_is_open}
CALLS: dict[str, Attempt] = {
    name: partial(reach_the_kernel, number, *arguments) for name, (number, *arguments) in _NUMBERS.items()
}
ATTEMPTS: dict[str, Attempt] = (
    FILES | METADATA | NETWORK | SOCKETS | PROCESSES | OTHERS | DESCRIPTORS | SELDOM | STARTS | CALLS
)
X32_GETPID = 0x40000000 + 39


def extract(content: memoryview, *, name: str, declared_type: str, max_characters: int) -> Extracted:
    target = json.loads(name)
    if declared_type == "x32":
        kernel.system_call(X32_GETPID)
    succeeded = []
    for attempt, work in ATTEMPTS.items():
        with suppress(OSError):
            if work(target) is not False:
                succeeded.append(attempt.replace(" ", "_"))
    return Extracted(",".join(["tried", *succeeded]), PLAIN_TEXT, None, None)


@contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def _keep_only(layers: set[str]) -> None:
    taken = {layer: take for layer, take in confinement._TAKEN.items() if layer in layers}
    confinement._TAKEN = MappingProxyType(taken)
    if "limits" not in layers:
        limits.impose = lambda *_: None
    if "descriptors" not in layers:
        kernel.close_all_but = lambda kept: None


def main() -> None:
    signal.alarm(120)
    if "HOSTILE_LAYERS" in os.environ:
        _keep_only(set(os.environ["HOSTILE_LAYERS"].split(",")))
    vars(extraction_child)["extract_document"] = extract
    extraction_child.warm_up()
    if "HOSTILE_USER" in os.environ:
        user = int(os.environ["HOSTILE_USER"])
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    allowed = confinement.Limits(**json.loads(sys.argv[2]))
    extraction_child.run(int(sys.argv[1]), socket.socket(fileno=os.dup(0)), os.dup(1), allowed)


if __name__ == "__main__":
    main()
