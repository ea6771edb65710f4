"""Landlock (landlock(7)): a domain in which no file, TCP port, abstract socket or foreign process can be reached.

A ruleset without a rule refuses everything it handles, permanently, for the process and all it forks. What is refused
grows with the kernel's ABI: files and ptrace from 1 on, truncating from 3, TCP from 4, devices from 5, abstract Unix
sockets and signals to processes outside of the domain from 6.
"""

import ctypes
import os
from typing import Final

from services.indexing.pipeline.confinement import kernel

_VERSION: Final = 1
_TCP: Final = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 0b11


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def abi() -> int:
    """The version the kernel knows.

    Raises:
        OSError: It knows none, or a filter of the container forbids the query.
    """
    return kernel.system_call(kernel.LANDLOCK_CREATE_RULESET, None, 0, _VERSION)


def enter(abi_version: int) -> None:
    """Enter a domain of its own. Needs `no_new_privs`; a domain entered before stays in force beside it.

    Raises:
        OSError: The kernel refused.
    """
    ruleset = _Ruleset(
        _file_rights(abi_version),
        _TCP if abi_version >= 4 else 0,
        _ABSTRACT_SOCKETS_AND_SIGNALS if abi_version >= 6 else 0,
    )
    size = 24 if abi_version >= 6 else 16 if abi_version >= 4 else 8
    descriptor = kernel.system_call(kernel.LANDLOCK_CREATE_RULESET, ctypes.byref(ruleset), size, 0)
    try:
        kernel.system_call(kernel.LANDLOCK_RESTRICT_SELF, descriptor, 0)
    finally:
        os.close(descriptor)


def _file_rights(abi_version: int) -> int:
    known = 13 + (abi_version >= 2) + (abi_version >= 3) + (abi_version >= 5)
    return (1 << known) - 1
