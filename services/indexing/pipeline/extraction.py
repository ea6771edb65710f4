"""Extraction of untrusted documents in processes of their own.

    async with ExtractionPool(size=2) as pool:
        document = await pool.extract(path, name="report.pdf", declared_type="application/pdf", tenant_id=tenant_id)

Guarantees
- The calling process never parses a document or splits its text. Each one is read in a fresh, confined copy of a
  process (see `extraction_child`): it has the document as memory, the limits of `Limits`, and no file, network, other
  process, environment or secret within reach (see `confinement`). Where the kernel gives less, the pool does not start,
  or, when that is allowed, says so (`ExtractionPool.confinement`).
- The processes are forks of one that has loaded the parsers (see `extraction_template`): they share its memory.
- `extract` returns checked data or raises an `ExtractionError` that says whether retrying can help.
- A process that is killed from outside is replaced, and its document read once more.
- Free processes go to the tenants in turn, and a tenant never has the last one unless there is only one. A document
  that takes long (`Limits.short_seconds`) gives up its place: reading continues as one of the `long` ones, which are
  counted separately in the same way. Tenants that sent one lately share one more process, and their documents give way
  to everything else on the machine from the beginning. A document that gives way pauses while urgent work is under way;
  the pause counts towards no limit.
- A cancelled `extract` ends the reading at once; the process is soon free for the next document, or replaced.
- Leaving the pool kills and reaps everything it started; so does the kernel when the calling process is killed (Linux).
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

from services.indexing.expiring_set import ExpiringSet
from services.indexing.pipeline import frames
from services.indexing.pipeline.confinement import Limits
from services.indexing.pipeline.documents import ChunkedDocument
from services.indexing.pipeline.errors import (
    DocumentUnreadable,
    ExtractionError,
    ExtractionInterrupted,
    ExtractionTimeout,
    ExtractionUnconfined,
)
from services.indexing.pipeline.extraction_processes import Process, Reading, Template
from services.indexing.pipeline.reply_validation import Answer
from services.indexing.work_priority import UrgentWork, yield_to
from shared.fair_semaphore import FairSemaphore

T = TypeVar("T")

# The process enforces the deadline itself; this much later it must be stuck.
_GRACE_SECONDS = 5.0
# A document keeps its place no longer than this, even if other work left it next to no processor time.
_PLACE_SECONDS = 10.0


def _stays() -> None:
    """Keeps reading: its duration does not matter to the caller."""


class ExtractionPool:
    """`size` processes, each reading one document at a time, up to `long` more for long documents, and one for
    tenants of those. Further calls wait, tenants in turn.

    Unless confinement is `required`, documents are also read in processes that the kernel confines less than it should.
    Tenants whose documents `took_long` elsewhere are treated like those whose reading did.
    """

    def __init__(
        self,
        size: int,
        limits: Limits | None = None,
        *,
        long: int = 1,
        required: bool = True,
        took_long: ExpiringSet[UUID] | None = None,
        urgent: UrgentWork | None = None,
    ) -> None:
        self._limits = limits or Limits()
        urgent = urgent or UrgentWork()
        self._template = Template(self._limits, required=required)
        self._slots = [_Slot(self._template, self._limits, urgent) for _ in range(size + long + 1)]
        self._size = size
        self._turns = FairSemaphore.with_one_to_spare(size)
        self._long_turns = FairSemaphore.with_one_to_spare(long)
        self._took_long = ExpiringSet() if took_long is None else took_long
        self._turns_of_those = FairSemaphore(1)
        self._idle: list[_Slot] = []

    async def __aenter__(self) -> Self:
        try:
            started = await asyncio.gather(*(slot.process() for slot in self._slots[-self._size :]))
        except BaseException:
            await self._close()
            raise
        self.confinement = started[0].confinement
        # Taken from the end: the others are started when needed.
        self._idle += self._slots
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def extract(
        self,
        path: Path,
        *,
        name: str,
        declared_type: str,
        tenant_id: UUID,
        long: bool = False,
        takes_long: Callable[[], None] = _stays,
    ) -> ChunkedDocument:
        """Read the document at `path`; `name` and `declared_type` are hints, the bytes decide.

        Args:
            long: it is known to take long.
            takes_long: called when it is found to take long; an exception from it ends the reading.

        Raises:
            ExtractionError: It could not be read; `permanent`, `code` and `message` say what that means.
        """
        async with AsyncExitStack() as place, AsyncExitStack() as short_place:
            if long:
                await place.enter_async_context(self._long_turns.turn(tenant_id))
            elif tenant_id not in self._took_long:
                await short_place.enter_async_context(self._turns.turn(tenant_id))
            if not long and tenant_id in self._took_long:
                await short_place.aclose()
                await short_place.enter_async_context(self._turns_of_those.turn(tenant_id))
            slot = self._idle.pop()
            gives_way = long or tenant_id in self._took_long
            try:
                with _opened(path) as document:
                    request = _Request(frames.request(name, declared_type, gives_way=gives_way), document, gives_way)
                    async with _running(slot.ask(request)) as reading:
                        if not long and not await self._ends_soon(slot, reading, request.found_long):
                            self._took_long.note(tenant_id)
                            takes_long()
                            if self._long_turns.has_place(tenant_id):
                                await place.enter_async_context(self._long_turns.turn(tenant_id))
                                await short_place.aclose()
                        return await reading
            finally:
                self._idle.append(slot)

    async def _ends_soon(
        self, slot: "_Slot", reading: "asyncio.Task[ChunkedDocument]", found_long: asyncio.Event
    ) -> bool:
        await slot.process()  # may have to be started, which is not the document's fault
        async with _running(found_long.wait()) as waiting:
            await asyncio.wait([reading, waiting], timeout=_PLACE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        return reading.done()

    async def _close(self) -> None:
        await asyncio.gather(*(slot.close() for slot in self._slots))
        await self._template.close()


@dataclass(frozen=True, slots=True)
class _Request:
    """A request to a process, and whether its document was found to take long."""

    payload: bytes
    document: int
    gives_way: bool
    found_long: asyncio.Event = field(default_factory=asyncio.Event)


class _Slot:
    """A place in the pool: one process, and its successor when it had to be killed."""

    def __init__(self, template: Template, limits: Limits, urgent: UrgentWork) -> None:
        self._template = template
        self._limits = limits
        self._urgent = urgent
        self._starting: asyncio.Task[Process] | None = None
        self._ended: list[Process] = []
        self._closed = False

    async def process(self) -> Process:
        """The slot's live process, started if need be.

        Raises:
            ExtractionInterrupted: It cannot be started, or the pool has been closed.
            ExtractionUnconfined: The kernel gives less than is required.
        """
        if self._closed:
            raise ExtractionInterrupted(detail="the pool is closed")
        try:
            # A caller that gives up must not cancel the start for the next one.
            process = await asyncio.shield(self._starting or self._start())
            if process.has_ended:
                self._ended.append(process)
                process = await asyncio.shield(self._start())
        except (OSError, EOFError, TimeoutError) as error:
            self._starting = None
            raise ExtractionInterrupted(detail=f"no extraction process: {error}") from error
        except ExtractionUnconfined:
            self._starting = None
            raise
        return process

    async def ask(self, request: _Request) -> ChunkedDocument:
        # A process killed from outside was most likely killed before it took the document, so it gets a second one.
        with suppress(OSError, EOFError):
            return await self._ask_once(request)
        try:
            return await self._ask_once(request)
        except (OSError, EOFError) as error:
            raise ExtractionInterrupted(detail="the extraction process ended") from error

    async def _ask_once(self, request: _Request) -> ChunkedDocument:
        process = await self.process()
        answer, ended = Answer(self._limits), False
        try:
            async with (
                asyncio.timeout(self._limits.deadline_seconds + _GRACE_SECONDS) as deadline,
                _running(process.wait_until_long(request.found_long)),
                _running(self._let_go_first(Reading(process, deadline), request)),
            ):
                payload = await process.ask(request.payload, request.document)
                while not frames.is_last(payload):
                    answer.take(payload)
                    payload = await process.answer()
                ended = True
        except asyncio.CancelledError:
            if self._closed:
                self._end(process)
            elif not ended:
                self._starting = asyncio.create_task(self._freed(process))
            raise
        except BaseException as error:
            self._end(process)
            if not self._closed:
                self._start()
            if isinstance(error, TimeoutError):
                raise ExtractionTimeout(detail="the extraction process did not answer") from error
            raise
        return answer.end(payload)

    async def _let_go_first(self, reading: Reading, request: _Request) -> None:
        if not request.gives_way:
            await request.found_long.wait()
        await yield_to(self._urgent, reading)

    async def _freed(self, process: Process) -> Process:
        """The process, once it has dropped its document, or another one."""
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                await process.cancel()
        except (OSError, EOFError, TimeoutError):
            self._end(process)
            return await self._launch()
        except asyncio.CancelledError:
            self._end(process)
            raise
        return process

    def _end(self, process: Process) -> None:
        process.kill()
        self._ended.append(process)

    async def close(self) -> None:
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            for result in await asyncio.gather(self._starting, return_exceptions=True):
                if isinstance(result, Process):
                    self._end(result)
        await self._reap()

    def _start(self) -> "asyncio.Task[Process]":
        self._starting = asyncio.create_task(self._launch())
        return self._starting

    async def _launch(self) -> Process:
        # Nothing is awaited after the start: a cancelled launch would lose the process.
        await self._reap()
        return await self._template.fork()

    async def _reap(self) -> None:
        while self._ended:
            await self._ended[-1].reap()
            self._ended.pop()


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, T]) -> "AsyncIterator[asyncio.Task[T]]":
    """`work` as a task that does not outlive the block."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    # Opened here and not in a thread: a cancellation would leak the descriptor. The file has just been written, to a
    # local disk.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise DocumentUnreadable(detail=str(error)) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


__all__ = ["ChunkedDocument", "ExtractionError", "ExtractionPool", "Limits"]
