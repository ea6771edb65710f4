"""Counts of metadata values over the documents of a result.

Bounded: a document's metadata is walked once for all fields; after `MAX_BYTES` of metadata, or `MAX_DISTINCT` different
values of a field, the rest does not count and the response says so, as it does when only the `MAX_VALUES` most frequent
values are listed. Texts longer than `MAX_VALUE` are no facet values.
"""

import heapq
import json
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from services.indexing.documents.repository import Described
from services.indexing.search.schemas import FacetValue, Omitted
from services.indexing.vectors.filters import composed

MAX_VALUES: Final = 50
MAX_VALUE: Final = 256
MAX_DISTINCT: Final = 5_000
MAX_BYTES: Final = 2**20
CONTENT_TYPE: Final = "content_type"

_STEPS_BETWEEN_YIELDS: Final = 150

Scalar = str | int | float | bool
_Key = tuple[str, Scalar]
"""With the type, because True equals 1; texts in NFC, as filters compare them."""
_Wanted = dict[str, list[str]]
"""What is left of the path to a field, and the fields it leads to."""


@dataclass(frozen=True, slots=True)
class Facets:
    """`omitted`: what the counts leave out; none of it, and they are exact."""

    counts: dict[str, list[FacetValue]]
    omitted: tuple[Omitted, ...] = ()


def counting(documents: Sequence[Described], fields: Sequence[str]) -> Generator[None, None, Facets]:
    """For each field its values, the most frequent first. A document counts once for each value it has.

    `documents` come best first; where not all of them count, the first ones do. `yield`s now and then.
    """
    counts: dict[str, Counter[_Key]] = {field: Counter() for field in fields}
    wanted: _Wanted = {field.removeprefix("metadata."): [field] for field in counts if field != CONTENT_TYPE}
    partial, read = False, 0
    for document in documents:
        values: dict[str, set[_Key]] = {field: set() for field in counts}
        if CONTENT_TYPE in values:
            values[CONTENT_TYPE].add(("str", document.content_type))
        if wanted:
            read += len(document.metadata)
            if read > MAX_BYTES:
                partial = True
                break
            yield from _walk(json.loads(document.metadata), wanted, values)
        for field, found in values.items():
            partial |= _add(counts[field], found)
        yield
    answer = {}
    for field, counted in counts.items():
        answer[field] = _most_frequent(counted)
        yield
    omitted: list[Omitted] = ["metadata"] if partial else []
    if any(len(counted) > MAX_VALUES for counted in counts.values()):
        omitted.append("values")
    return Facets(answer, tuple(omitted))


def _add(counted: Counter[_Key], found: set[_Key]) -> bool:
    """Returns whether something was left out."""
    for key in found:
        if key in counted or len(counted) < MAX_DISTINCT:
            counted[key] += 1
    return len(counted) >= MAX_DISTINCT and not found <= counted.keys()


def _most_frequent(counted: Counter[_Key]) -> list[FacetValue]:
    first = heapq.nsmallest(MAX_VALUES, counted.items(), key=lambda item: (-item[1], item[0][0], str(item[0][1])))
    return [FacetValue(value=value, count=number) for (_, value), number in first]


def _walk(metadata: JsonValue, wanted: _Wanted, values: dict[str, set[_Key]]) -> Generator[None, None, None]:
    """Collects scalars under dotted paths; a list counts as each of its elements, and keys may contain dots."""
    steps = 0
    waiting: list[tuple[JsonValue, _Wanted]] = [(metadata, wanted)]
    while waiting:
        value, paths = waiting.pop()
        if isinstance(value, list):
            waiting += [(element, paths) for element in value]
        elif isinstance(value, dict):
            waiting += _members(value, paths)
        elif isinstance(value, Scalar) and not (isinstance(value, str) and len(value) > MAX_VALUE):
            for field in paths.get("", ()):
                values[field].add((type(value).__name__, composed(value)))
        steps += 1
        if steps % _STEPS_BETWEEN_YIELDS == 0:
            yield


def _members(value: dict[str, JsonValue], paths: _Wanted) -> Iterator[tuple[JsonValue, _Wanted]]:
    further: dict[str, _Wanted] = {}
    for path, fields in paths.items():
        for key, rest in _steps(path, value):
            further.setdefault(key, {}).setdefault(rest, []).extend(fields)
    for key, rests in further.items():
        yield value[key], rests


def _steps(path: str, value: dict[str, JsonValue]) -> Iterator[tuple[str, str]]:
    """Keys of `value` that the path can begin with, each with the rest of the path."""
    if len(value) <= path.count("."):
        for key in value:
            if path == key:
                yield key, ""
            elif path.startswith(f"{key}."):
                yield key, path[len(key) + 1 :]
        return
    end = path.find(".")
    while end >= 0:
        if path[:end] in value:
            yield path[:end], path[end + 1 :]
        end = path.find(".", end + 1)
    if path and path in value:
        yield path, ""
