"""A seccomp filter (seccomp(2)) that allows only the system calls that computing takes.

Parsing bytes that are in memory takes memory, time and a place to write the result to. Calls that open, connect, create
a process or query one are not on the list, so they are refused, as are those that a later kernel adds. Refused means
EPERM, because parsers ask for things they can do without, such as fonts. A call through another ABI of the processor,
whose numbers mean something else, kills the process. No memory becomes executable that was not at the start.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from services.indexing.pipeline.confinement import kernel

_MODE_FILTER: Final = 2
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EPERM
_KILL_PROCESS: Final = 0x80000000
_PROT_EXEC: Final = 4
_X32: Final = 0x40000000

# Classic BPF (bpf(4)): load a word, compare and jump, return. Offsets into struct seccomp_data, little-endian.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16


@dataclass(frozen=True, slots=True)
class _Architecture:
    audit: int
    column: int


_ARCHITECTURES: Final[Mapping[str, _Architecture]] = MappingProxyType(
    {"x86_64": _Architecture(0xC000003E, 0), "aarch64": _Architecture(0xC00000B7, 1)}
)

# Number on x86_64, on aarch64 (None: it has no such call).
_ALLOWED: Final[Mapping[str, tuple[int, int | None]]] = MappingProxyType(
    {
        # memory
        "futex": (202, 98),
        "brk": (12, 214),
        "munmap": (11, 215),
        "mremap": (25, 216),
        "madvise": (28, 233),
        # the pipe for the result, the only open descriptor
        "write": (1, 64),
        # time and randomness
        "clock_gettime": (228, 113),
        "clock_getres": (229, 114),
        "clock_nanosleep": (230, 115),
        "gettimeofday": (96, 169),
        "time": (201, None),
        "nanosleep": (35, 101),
        "restart_syscall": (219, 128),
        "sched_yield": (24, 124),
        "getrandom": (318, 278),
        # signals to and from itself, its end
        "rt_sigaction": (13, 134),
        "rt_sigprocmask": (14, 135),
        "rt_sigreturn": (15, 139),
        "sigaltstack": (131, 132),
        "getpid": (39, 172),
        "gettid": (186, 178),
        "exit": (60, 93),
        "exit_group": (231, 94),
        # how much memory there is: needed by the C library's sort
        "sysinfo": (99, 179),
    }
)
_MMAP, _MPROTECT, _TGKILL = (9, 222), (10, 226), (234, 131)


def probe() -> None:
    """Find out whether there can be a filter.

    Raises:
        OSError: The kernel accepts none, or there is none for this processor.
    """
    if platform.machine() not in _ARCHITECTURES or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise OSError(errno.ENOSYS, f"no filter for {platform.machine()}")
    try:
        kernel.prctl(kernel.PR_SET_SECCOMP, _MODE_FILTER, None)
    except OSError as error:
        # The kernel accepts filters, and finds none at address zero (seccomp(2)).
        if error.errno != errno.EFAULT:
            raise


def install() -> None:
    """Filter this process, permanently. Needs `no_new_privs`.

    Raises:
        OSError: The kernel refused.
    """
    code = program(platform.machine(), os.getpid())
    instructions = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(instructions))
    kernel.prctl(kernel.PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(header))


def program(machine: str, process: int) -> bytes:
    """The filter for a process, which may send signals to itself: abort(3) does."""
    architecture = _ARCHITECTURES[machine]
    code = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_EQUAL, architecture.audit, matched=1),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD, _NUMBER),
        _instruction(_AT_LEAST, _X32, unmatched=1),
        _instruction(_RETURN, _KILL_PROCESS),
    ]
    for numbers in _ALLOWED.values():
        number = numbers[architecture.column]
        if number is not None:
            code += [_instruction(_EQUAL, number, unmatched=1), _instruction(_RETURN, _ALLOW)]
    for protecting in (_MMAP, _MPROTECT):
        test = _instruction(_ANY_BIT, _PROT_EXEC, unmatched=1)
        code += _if_argument(protecting[architecture.column], 2, test)
    test = _instruction(_EQUAL, process, matched=1)
    code += _if_argument(_TGKILL[architecture.column], 0, test)
    code.append(_instruction(_RETURN, _REFUSE))
    return b"".join(code)


def _if_argument(number: int, argument: int, test: bytes) -> list[bytes]:
    """For one system call: refused when `test` goes on with the next instruction, allowed when it skips one."""
    return [
        _instruction(_EQUAL, number, unmatched=4),
        _instruction(_LOAD, _ARGUMENTS + 8 * argument),
        test,
        _instruction(_RETURN, _REFUSE),
        _instruction(_RETURN, _ALLOW),
    ]


def _instruction(code: int, operand: int, *, matched: int = 0, unmatched: int = 0) -> bytes:
    return struct.pack("HBBI", code, matched, unmatched, operand)
