"""Counts of metadata values over the documents of a result."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pydantic import JsonValue

from services.indexing.documents.models import Document
from services.indexing.search.schemas import FacetValue

MAX_VALUES: Final = 50
CONTENT_TYPE: Final = "content_type"

Scalar = str | int | float | bool


def count(documents: Sequence[Document], fields: Iterable[str]) -> dict[str, list[FacetValue]]:
    """For each field its values, the most frequent first. A document counts once for each value it has."""
    return {field: _of_field(documents, field) for field in fields}


def _of_field(documents: Sequence[Document], field: str) -> list[FacetValue]:
    # Keyed with the type, because True equals 1.
    counts = Counter(key for document in documents for key in {(type(v).__name__, v) for v in _values(document, field)})
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0][0], str(item[0][1])))
    return [FacetValue(value=value, count=number) for (_, value), number in ordered[:MAX_VALUES]]


def _values(document: Document, field: str) -> Iterator[Scalar]:
    if field == CONTENT_TYPE:
        yield document.content_type
    else:
        yield from _at(document.attributes, field.removeprefix("metadata."))


def _at(value: JsonValue, path: str) -> Iterator[Scalar]:
    """Scalars under a dotted path; lists stand for each of their elements, and keys may hold dots themselves."""
    if isinstance(value, list):
        for element in value:
            yield from _at(element, path)
    elif isinstance(value, dict) and path:
        for key, member in value.items():
            if path == key:
                yield from _at(member, "")
            elif path.startswith(f"{key}."):
                yield from _at(member, path[len(key) + 1 :])
    elif isinstance(value, Scalar) and not path:
        yield value
