"""What the processes of an extraction pool are forked from: `python -m ...extraction_template <parent pid> <limits>`.

It imports the parsers once, so that the processes share their memory and start in milliseconds. It reads no document
and confines nothing: each order on its standard input makes it fork a process (see `extraction_child`) or kill one. It
has one thread, which is what makes forking it safe.

Guarantees: it reaps every process it has forked. It ends when its standard input ends or its parent dies, and all of
its processes with it.
"""

import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import NoReturn

import orjson

from services.indexing.pipeline import extraction_child, frames
from services.indexing.pipeline.confinement import Limits, die_with_parent


def main() -> None:
    parent = int(sys.argv[1])
    die_with_parent(parent)
    # A group of its own, so that a terminal's signals do not reach it; but not a session: the kernel shares the
    # processors among sessions first (autogroup), so a document's low priority would have no effect outside its own.
    os.setpgid(0, 0)
    limits = Limits(**orjson.loads(sys.argv[2]))
    orders = socket.socket(fileno=os.dup(0))
    extraction_child.warm_up()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    # The parsers' objects stay on shared pages instead of being moved by each process's collector.
    gc.collect()
    gc.freeze()
    _Template(orders, limits).serve()


class _Template:
    def __init__(self, orders: socket.socket, limits: Limits) -> None:
        self._orders = orders
        self._limits = limits
        self._processes: dict[int, int] = {}
        self._ended, self._noting = socket.socketpair()
        self._noting.setblocking(False)

    def serve(self) -> None:
        """Obey until orders end, then end every process."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._noting.fileno(), warn_on_full_buffer=False)
        waiting = select.poll()
        waiting.register(self._orders, select.POLLIN)
        waiting.register(self._ended, select.POLLIN)
        obeying = True
        while obeying:
            ready = dict(waiting.poll())
            if self._ended.fileno() in ready:
                self._ended.recv(4096)
                self._reap()
            if self._orders.fileno() in ready:
                obeying = self._obey()
        for process in self._processes.values():
            _kill(process)
        for process in self._processes.values():
            os.waitpid(process, 0)

    def _obey(self) -> bool:
        order, descriptors, _, _ = socket.recv_fds(self._orders, frames.ORDER.size, 2)
        if len(order) < frames.ORDER.size:
            return False
        verb, number = frames.ORDER.unpack(order)
        if verb == frames.KILL:
            if number in self._processes:
                _kill(self._processes[number])
        else:
            self._fork(number, *descriptors)
        return True

    def _fork(self, number: int, requests: int, responses: int) -> None:
        """A fork that fails closes the pipe, as a process does that ends."""
        this = os.getpid()
        with suppress(OSError):
            process = os.fork()
            if not process:
                self._become_process(this, requests, responses)
            self._processes[number] = process
        os.close(requests)
        os.close(responses)

    def _become_process(self, parent: int, requests: int, responses: int) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for ours in (self._orders, self._ended, self._noting):
                ours.close()
            extraction_child.run(parent, socket.socket(fileno=requests), responses, self._limits)
        finally:
            os._exit(0)

    def _reap(self) -> None:
        for number, process in list(self._processes.items()):
            if os.waitpid(process, os.WNOHANG) != (0, 0):
                del self._processes[number]


def _kill(process: int) -> None:
    """Kill a process and the copy that reads a document; they are one process group, soon after the start."""
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main()
