"""How good search is: a judged collection, indexed and searched through the gateway.

`QUARRY_BENCH_COLLECTION` names a folder with `docs.jsonl` (`id`, `title`, `text`), `queries.jsonl` (`id`, `text`) and
`qrels.tsv` (query, document and grade, by tabs), as collections of BEIR have.
"""

import asyncio
import math
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import orjson

from tests.support.system import System, create_project, settled, upload
from tests.support.system import search as search_for

COLLECTION: Final = "QUARRY_BENCH_COLLECTION"
_DEPTH: Final = 10
_AT_ONCE: Final = 8
_TIMED: Final = 100


@dataclass(frozen=True, slots=True)
class Collection:
    documents: Mapping[str, str]
    queries: Mapping[str, str]
    grades: Mapping[str, Mapping[str, int]]

    @classmethod
    def read(cls, folder: Path) -> "Collection":
        documents = {row["id"]: f"{row['title']}\n\n{row['text']}".strip() for row in _rows(folder / "docs.jsonl")}
        grades: dict[str, dict[str, int]] = {}
        for line in (folder / "qrels.tsv").read_text().splitlines():
            query, document, grade = line.split("\t")
            if grade.lstrip("-").isdigit():
                grades.setdefault(query, {})[document] = int(grade)
        return cls(documents, {row["id"]: row["text"] for row in _rows(folder / "queries.jsonl")}, grades)


async def judged() -> Collection | None:
    """The collection, if the environment names one."""
    if COLLECTION not in os.environ:
        return None
    return await asyncio.to_thread(Collection.read, Path(os.environ[COLLECTION]))


async def uploaded(client: httpx.AsyncClient, project: str, collection: Collection) -> dict[str, str]:
    """Index all documents that have a text; their names in the collection, by id."""
    names, began = dict[str, str](), time.perf_counter()
    for identifier, text in collection.documents.items():
        if text:
            names[await upload(client, project, f"{identifier}.txt", text.encode())] = identifier
    await settled(client, project, len(names), within=900)
    print(f"{len(names)} documents indexed in {time.perf_counter() - began:.0f} s")
    return names


async def quality(_: System, client: httpx.AsyncClient) -> None:
    """nDCG at 10 of each mode, and what marking the best sentences adds to a search."""
    collection = await judged()
    if collection is None:
        print(f"quality: not measured, {COLLECTION} names no collection")
        return
    project = await create_project(client, "quality")
    names = await uploaded(client, project, collection)
    for mode in ("keyword", "semantic", "hybrid"):
        places = asyncio.Semaphore(_AT_ONCE)

        async def measured(query: str, mode: str = mode, places: asyncio.Semaphore = places) -> float | None:
            async with places:
                items = await search_for(client, project, collection.queries[query], mode, limit=50)
            found = list(dict.fromkeys(names[item["document_id"]] for item in items))
            return ndcg(found, collection.grades.get(query, {}))

        scores = [score for score in await asyncio.gather(*map(measured, collection.queries)) if score is not None]
        print(f"  {mode}: nDCG@{_DEPTH} {sum(scores) / len(scores):.4f} over {len(scores)} queries")
    for mode in ("semantic", "hybrid"):
        await _marking(client, project, list(collection.queries.values())[:_TIMED], mode)


async def _marking(client: httpx.AsyncClient, project: str, queries: Sequence[str], mode: str) -> None:
    """A page without and with the best sentences marked, in turn, so that both meet the same neighbours."""
    took: dict[str, list[float]] = {"keyword": [], "semantic": []}
    marked = 0
    for query in queries:
        for highlight, times in took.items():
            began = time.perf_counter()
            items = await search_for(client, project, query, mode, highlight=highlight)
            times.append((time.perf_counter() - began) * 1000)
            marked += sum(mark["kind"] == "semantic" for item in items for mark in item["highlights"])
    p50 = {highlight: statistics.median(times) for highlight, times in took.items()}
    print(
        f"  {mode}, p50 over {len(queries)} queries: {p50['keyword']:.1f} ms, with best sentences "
        f"{p50['semantic']:.1f} ms; {marked / len(queries):.1f} of 10 items have one"
    )


def ndcg(found: Sequence[str], grades: Mapping[str, int]) -> float | None:
    """Normalised discounted cumulative gain (Järvelin and Kekäläinen, 2002) of the first ten documents; None for a
    query that nothing was judged relevant to."""
    ideal = _gain(sorted((grade for grade in grades.values() if grade > 0), reverse=True))
    return _gain([max(grades.get(document, 0), 0) for document in found]) / ideal if ideal else None


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades[:_DEPTH], start=1))


def _rows(path: Path) -> list[dict[str, str]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]
