"""Giving up privileges: user, groups, capabilities, and the view of other processes, networks and files."""

import ctypes
import os
import struct
from contextlib import suppress
from typing import Final

from services.indexing.pipeline.confinement import kernel

_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 4, 8, 32
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_MNT_DETACH: Final = 2
_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
_CAPABILITIES_VERSION_3: Final = 0x20080522

# Ids that no distribution hands out (systemd, "Users, Groups, UIDs and GIDs"). With the process id added, which is
# below 2**22, no two processes that read documents share one.
_FIRST_USER: Final = 0x70000000
_NOBODY: Final = 65534


def become_nobody() -> str:
    """As root: become a user that owns nothing and shares its id with no other process, or else `nobody`.

    Raises:
        OSError: This process is not root, or may not change users.
    """
    for user in (_FIRST_USER + os.getpid(), _NOBODY):
        try:
            _become(user)
        except OSError as error:
            refused = error
        else:
            return str(user)
    raise refused


def drop_capabilities() -> None:
    """Empty every set of capabilities, irreversibly.

    Raises:
        OSError: The kernel refused.
    """
    with suppress(OSError):  # before Linux 4.3
        kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_CLEAR_ALL)
    with suppress(OSError):  # beyond the last one that the kernel knows; or not allowed, and then it has no effect
        for capability in range(64):
            kernel.prctl(kernel.PR_CAPBSET_DROP, capability)
    header = struct.pack("Ii", _CAPABILITIES_VERSION_3, 0)
    kernel.call("capset", ctypes.c_char_p(header), ctypes.c_char_p(bytes(24)))


def enter_empty_namespaces(machine: str) -> str:
    """Move into a network without interfaces, an empty file system and empty System V IPC.

    Raises:
        OSError: The kernel, or the container's profile, does not allow it.
    """
    emptied = _CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWIPC
    try:
        kernel.call("unshare", emptied)
    except PermissionError:
        # An ordinary user may, as the first process of a user namespace, where the kernel allows those.
        kernel.call("unshare", emptied | _CLONE_NEWUSER)
    _empty_file_system(machine)
    return "files, network, ipc"


def _become(user: int) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _empty_file_system(machine: str) -> None:
    """Make an empty, read-only file system the root, and detach the previous one."""
    kernel.call("mount", None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    kernel.call("mount", b"none", b"/tmp", b"tmpfs", ctypes.c_ulong(flags), b"size=4k,mode=0555")
    os.chdir("/tmp")  # noqa: S108
    kernel.system_call(_PIVOT_ROOT[machine], b".", b".")
    kernel.call("umount2", b".", _MNT_DETACH)
    os.chdir("/")
    kernel.call("mount", None, b"/", None, ctypes.c_ulong(flags | _MS_REMOUNT | _MS_RDONLY), b"size=4k,mode=0555")
