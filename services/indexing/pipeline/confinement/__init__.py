"""What is taken away from a process before it reads an untrusted file.

In two steps, both irreversible: `retire` takes from each process of a pool, once, what neither it nor its copies need;
`confine` takes the rest from each copy, right before it parses.

| layer | taken by | takes |
| --- | --- | --- |
| namespaces | `retire` | every file, network interface and IPC object of the machine |
| user | `retire`, as root | the user: an id of its own, no group |
| privileges | `retire` | capabilities, gaining any by executing a file, being traced or dumped |
| landlock | both | files, TCP, abstract sockets; from a copy also ptrace and signals to its parent |
| limits | `confine` | memory, time, files written, processes, new descriptors |
| descriptors | `confine` | every one but the pipe for the result; the document is memory by then |
| seccomp | `confine` | every system call but those that computing takes |

Guarantees: a layer that `retire` reports is in force in every copy, or the copy does not read the document. Layers that
are missing are reported with the kernel's reason; `Confinement.is_sufficient` says whether the rest is enough.

Not guaranteed: a kernel without bugs, or secrecy against a copy that measures the machine it runs on (time, load).
"""

import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from services.indexing.pipeline.confinement import kernel, landlock, limits, privileges, seccomp
from services.indexing.pipeline.confinement.limits import (
    Limits,
    die_with_parent,
    give_way,
    volunteer_for_the_oom_killer,
)


@dataclass(frozen=True, slots=True)
class Confinement:
    """The layers in force, each with its details, and those that are missing, each with the reason."""

    layers: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def is_sufficient(self) -> bool:
        """Whether files, network and other processes are out of reach, and files twice over.

        The filter of system calls alone refuses all of them; one more layer must refuse files by another mechanism.
        """
        return "seccomp" in self.layers and ("landlock" in self.layers or "namespaces" in self.layers)


def retire() -> Confinement:
    """Take from this process what it does not need once everything is loaded. It must have a single thread.

    Its parent's death no longer ends it afterwards: a change of user clears that setting in the kernel.
    """
    layers: dict[str, str] = {"limits": "memory, time, files, processes", "descriptors": "answer"}
    missing: dict[str, str] = {}
    if sys.platform != "linux":
        return Confinement(layers, dict.fromkeys(_TAKEN, f"{sys.platform} has none"))
    for layer, take in _TAKEN.items():
        try:
            layers[layer] = take()
        except OSError as error:
            missing[layer] = error.strerror or str(error)
    return Confinement(layers, missing)


def confine(confinement: Confinement, allowed: Limits, *, answers: int, document_bytes: int) -> None:
    """Take everything from this process but memory, time and the descriptor `answers`.

    Raises:
        OSError: A layer of `confinement` is not available here. This process must not read the document.
    """
    kernel.close_all_but(answers)
    if "landlock" in confinement.layers:
        landlock.enter(int(confinement.layers["landlock"].removeprefix("ABI ")))
    limits.impose(allowed, document_bytes)
    if "seccomp" in confinement.layers:
        seccomp.install()


def _enter_namespaces() -> str:
    return privileges.enter_empty_namespaces(platform.machine())


def _drop_privileges() -> str:
    privileges.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    return "none, none to be gained"


def _enter_landlock() -> str:
    version = landlock.abi()
    landlock.enter(version)
    return f"ABI {version}"


def _find_seccomp() -> str:
    seccomp.probe()
    return "allowlist"


# In this order: namespaces take root's privileges, changing users takes its capabilities, Landlock takes no_new_privs.
_TAKEN: Mapping[str, Callable[[], str]] = MappingProxyType(
    {
        "namespaces": _enter_namespaces,
        "user": privileges.become_nobody,
        "privileges": _drop_privileges,
        "landlock": _enter_landlock,
        "seccomp": _find_seccomp,
    }
)

__all__ = ["Confinement", "Limits", "confine", "die_with_parent", "give_way", "retire", "volunteer_for_the_oom_killer"]
