"""The processes of an extraction pool, as the pool sees them: the template, its forks, and a document being read."""

import asyncio
import itertools
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Self

import orjson
from pydantic import TypeAdapter

from services.indexing.pipeline import frames
from services.indexing.pipeline.confinement import Confinement, Limits
from services.indexing.pipeline.errors import ExtractionUnconfined

_START_SECONDS = 30.0
_END_SECONDS = 5.0
_CONFINEMENT = TypeAdapter(Confinement)


class Template:
    """The process that the others are forked from (see `extraction_template`). It is started when first needed, and
    again when it has ended, and the others with it. `required`: they must be confined sufficiently.
    """

    def __init__(self, limits: Limits, *, required: bool) -> None:
        self._limits = limits
        self._required = required
        self._numbers = itertools.count()
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._orders: socket.socket | None = None

    async def fork(self) -> "Process":
        """A process that is ready.

        Raises:
            OSError, EOFError, TimeoutError: it could not be started.
            ExtractionUnconfined: the kernel gives less than is required.
        """
        orders = await self._started()
        number = next(self._numbers)
        with _ends() as (asking, answering, reading, writing):
            socket.send_fds(orders, [frames.ORDER.pack(frames.START, number)], [answering.fileno(), writing])
            process = await Process.of(self, number, asking, reading)
        try:
            async with asyncio.timeout(_START_SECONDS):
                process.confinement = _CONFINEMENT.validate_json(await process.answer())
            if self._required and not process.confinement.is_sufficient:
                raise ExtractionUnconfined(detail=str(process.confinement.missing))
        except BaseException:
            process.kill()
            await process.reap()
            raise
        return process

    def kill(self, number: int) -> None:
        with suppress(OSError):  # it has ended, and its processes with it
            if self._orders is not None:
                self._orders.send(frames.ORDER.pack(frames.KILL, number))

    def kill_all(self) -> None:
        """For a template that does not obey."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def close(self) -> None:
        """End it and whatever it has forked."""
        if self._orders is not None:
            self._orders.close()
        if self._process is not None:
            try:
                async with asyncio.timeout(_END_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                self.kill_all()
                await self._process.wait()

    async def _started(self) -> socket.socket:
        async with self._starting:
            if self._orders is not None and _is_closed(self._orders):
                self._orders.close()
                self._orders = None
            if self._orders is None:
                ours, its = socket.socketpair()
                ours.setblocking(False)
                with ExitStack() as unless_started, its:
                    unless_started.enter_context(ours)
                    self._process = await asyncio.create_subprocess_exec(
                        *(sys.executable, "-P", "-m", "services.indexing.pipeline.extraction_template"),
                        *(str(os.getpid()), orjson.dumps(asdict(self._limits)).decode()),
                        stdin=its.fileno(),
                        stdout=asyncio.subprocess.DEVNULL,
                        env=_environment(),
                    )
                    unless_started.pop_all()
                self._orders = ours
            return self._orders


@dataclass(slots=True)
class Process:
    """One fork: it reads one document at a time, in a copy of itself."""

    _template: Template
    _number: int
    _requests: socket.socket
    _answers: asyncio.StreamReader
    _pipe: asyncio.ReadTransport
    confinement: Confinement = field(default_factory=Confinement)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _length: int | None = None

    @classmethod
    async def of(cls, template: Template, number: int, requests: socket.socket, answers: int) -> Self:
        """The process at the other end of `requests` and of the pipe `answers`; it has its own descriptors of both."""
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        pipe, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop), os.fdopen(os.dup(answers), "rb", buffering=0)
        )
        return cls(template, number, requests.dup(), reader, pipe)

    @property
    def has_ended(self) -> bool:
        return self._answers.at_eof()

    async def wait_until_long(self, found: asyncio.Event) -> None:
        """Set `found` when the process reports that its document takes long."""
        while await asyncio.get_running_loop().sock_recv(self._requests, 1) == frames.TAKES_LONG:
            found.set()

    async def ask(self, request: bytes, document: int) -> bytes:
        """The first frame of the reply."""
        # A late report about the previous document, whose last frame came first.
        with suppress(BlockingIOError):
            self._requests.recv(1)
        frame = frames.frame(request)
        # One small request at a time: the socket has room for it, unless the process no longer reads.
        if socket.send_fds(self._requests, [frame], [document]) != len(frame):
            raise EOFError(f"a request of {len(frame)} bytes")
        return await self.answer()

    async def answer(self) -> bytes:
        """The next frame."""
        async with self._reading:
            if self._length is None:
                (self._length,) = frames.LENGTH.unpack(await self._answers.readexactly(frames.LENGTH.size))
            if self._length > frames.MAX_BYTES:
                raise EOFError(f"a frame of {self._length} bytes")
            # Kept: another caller may read the payload if this one is cancelled.
            payload = await self._answers.readexactly(self._length)
            self._length = None
            return payload

    def tell(self, word: bytes) -> None:
        with suppress(OSError):  # it has ended, as the caller that waits for its result finds out
            self._requests.send(word)

    async def cancel(self) -> None:
        """Make it drop its document. Returns when it is ready for the next one.

        Raises:
            OSError, EOFError: it has ended.
        """
        self._requests.send(frames.CANCEL)
        while not frames.is_last(await self.answer()):
            pass

    def kill(self) -> None:
        """Kill it, and its copy that reads a document."""
        self._template.kill(self._number)

    async def reap(self) -> None:
        """Wait for the end of a process that has been killed, and release its pipes."""
        self._requests.close()
        # Its pipe ends with it. What it left unread would keep the pipe open.
        async with self._reading:
            try:
                async with asyncio.timeout(_END_SECONDS):
                    await self._answers.read()
            except TimeoutError:
                self._template.kill_all()
                await self._answers.read()
        self._pipe.close()


class Reading:
    """The reading of a document, which can be paused; its deadline is extended by the pause."""

    def __init__(self, process: Process, deadline: asyncio.Timeout) -> None:
        self._process = process
        self._deadline = deadline
        self._left = 0.0

    def pause(self) -> None:
        self._process.tell(frames.PAUSE)
        if (when := self._deadline.when()) is not None:
            self._left = when - asyncio.get_running_loop().time()
            self._deadline.reschedule(None)

    def go_on(self) -> None:
        self._process.tell(frames.GO_ON)
        self._deadline.reschedule(asyncio.get_running_loop().time() + self._left)


def _is_closed(orders: socket.socket) -> bool:
    """Whether the template has ended: it never writes."""
    try:
        return not orders.recv(1, socket.MSG_PEEK)
    except OSError as error:
        return not isinstance(error, BlockingIOError)


@contextmanager
def _ends() -> Iterator[tuple[socket.socket, socket.socket, int, int]]:
    """Both ends of a socket and of a pipe, closed at the end."""
    with ExitStack() as opened:
        asking, answering = (opened.enter_context(end) for end in socket.socketpair())
        asking.setblocking(False)
        reading, writing = os.pipe()
        opened.callback(os.close, reading)
        opened.callback(os.close, writing)
        yield asking, answering, reading, writing


def _environment() -> dict[str, str]:
    """None of our variables: settings and secrets stay on this side."""
    return {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONUTF8": "1",
        "PYTHONNOUSERSITE": "1",
    }
