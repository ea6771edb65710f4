"""Linux kernel calls for confinement that the standard library lacks."""

import ctypes
import os
from functools import lru_cache
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_SECCOMP: Final = 22
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

# The numbers of these are the same on every architecture.
CLOSE_RANGE: Final = 436
LANDLOCK_CREATE_RULESET: Final = 444
LANDLOCK_RESTRICT_SELF: Final = 446

_HIGHEST_DESCRIPTOR: Final = 0x7FFFFFFF


def prctl(option: int, *arguments: object) -> int:
    """prctl(2).

    Raises:
        OSError: what the kernel said.
    """
    return _checked(_libc().prctl(option, *(_long(one) for one in (*arguments, 0, 0, 0, 0)[:4])), f"prctl {option}")


def system_call(number: int, *arguments: object) -> int:
    """syscall(2).

    Raises:
        OSError: what the kernel said.
    """
    return _checked(_libc().syscall(ctypes.c_long(number), *map(_long, arguments)), f"system call {number}")


def call(function: str, *arguments: object) -> int:
    """A function of the C library that sets errno.

    Raises:
        OSError: what the kernel said.
    """
    return _checked(getattr(_libc(), function)(*arguments), function)


def close_all_but(kept: int) -> None:
    """Close every descriptor of this process but one, including unknown ones."""
    if kept:
        _close_range(0, kept - 1)
    _close_range(kept + 1, _HIGHEST_DESCRIPTOR)


def _close_range(first: int, last: int) -> None:
    try:
        system_call(CLOSE_RANGE, first, last, 0)
    except OSError:  # before Linux 5.9, or not Linux
        os.closerange(first, min(last, os.sysconf("SC_OPEN_MAX")) + 1)


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _long(argument: object) -> object:
    return ctypes.c_long(argument) if isinstance(argument, int) else argument


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
