"""Run a program so that it cannot outlive its supervisor.

    python -I -S child.py <supervisor pid> <death signal> <uid> <gid> program argument...

Executed as a file, with the standard library alone, in front of every process of the embedded stack: it gives up
privileges when a uid is given (-1 keeps them), asks the kernel for `death signal` when the supervisor dies, even by
SIGKILL (Linux), and becomes the program. A hook between fork and exec could do the same, but is not safe in a process
that has threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    supervisor, death_signal, uid, gid = (int(value) for value in arguments[:4])
    program = arguments[4:]
    # The interpreter ignores these, and ignored signals stay so across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.umask(0o077)
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After setuid, which clears it.
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"prctl: {os.strerror(error)}")
    if os.getppid() != supervisor:
        sys.exit("the supervisor is gone")
    try:
        os.execvp(program[0], program)  # noqa: S606  # no shell is wanted
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
