"""What a filter means, said again in plain Python, to compare the engines with."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from operator import ge, gt, le, lt

from pydantic import JsonValue

from services.indexing.vectors.filters import (
    AllOf,
    AnyOf,
    ContentTypeCondition,
    CreatedAtCondition,
    DocumentCondition,
    FilterNode,
    LanguageCondition,
    MetadataCondition,
    NameCondition,
    Not,
)
from services.indexing.vectors.points import ChunkPoint

COMPARE: dict[str, Callable[..., bool]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le}


def matches(node: FilterNode, point: ChunkPoint) -> bool:
    match node:
        case AllOf():
            return all(matches(inner, point) for inner in node.all)
        case AnyOf():
            return any(matches(inner, point) for inner in node.any)
        case Not():
            return not matches(node.not_, point)
        case MetadataCondition():
            return _metadata_matches(node, values_at(dict(point.metadata), node.path))
        case CreatedAtCondition():
            return _scalar_matches(node, point.created_at) and _within(node, point.created_at)
        case _:
            return _scalar_matches(node, getattr(point, node.field))


def _scalar_matches(
    node: NameCondition | LanguageCondition | DocumentCondition | ContentTypeCondition | CreatedAtCondition,
    value: object,
) -> bool:
    among = getattr(node, "in_", None)
    prefix = getattr(node, "prefix", None)
    exists = getattr(node, "exists", None)
    return (
        (node.eq is None or value == node.eq)
        and (node.ne is None or value != node.ne)
        and (among is None or value in among)
        and (prefix is None or str(value).startswith(prefix))
        and (exists is None or exists == (value is not None))
    )


def _metadata_matches(node: MetadataCondition, values: list[JsonValue]) -> bool:
    scalars = [value for value in values if not isinstance(value, dict)]
    texts = [value for value in scalars if isinstance(value, str)]
    return (
        (node.eq is None or any(map(partial(_same, node.eq), scalars)))
        and (node.ne is None or not any(map(partial(_same, node.ne), scalars)))
        and (node.in_ is None or any(_same(wanted, value) for wanted in node.in_ for value in scalars))
        and (node.exists is None or node.exists == bool(values))
        and (node.prefix is None or any(text.startswith(node.prefix) for text in texts))
        and (_bounds(node) == {} or any(_comparable(node, value) for value in scalars))
    )


def _comparable(node: MetadataCondition, value: JsonValue) -> bool:
    if any(isinstance(bound, datetime) for bound in _bounds(node).values()):
        moment = _instant(value)
        return moment is not None and _within(node, moment)
    return isinstance(value, int | float) and not isinstance(value, bool) and _within(node, value)


def _within(node: MetadataCondition | CreatedAtCondition, value: object) -> bool:
    return all(COMPARE[name](value, bound) for name, bound in _bounds(node).items())


def _bounds(node: MetadataCondition | CreatedAtCondition) -> dict[str, object]:
    return {name: getattr(node, name) for name in COMPARE if getattr(node, name) is not None}


def values_at(value: JsonValue, path: str) -> list[JsonValue]:
    """Every value that `path` names, lists taken apart; nothing for what does not exist."""
    if isinstance(value, list):
        return [found for element in value for found in values_at(element, path)]
    if not path:
        return [] if value is None or value == {} else [value]
    if not isinstance(value, dict):
        return []
    return [
        found
        for key, inner in value.items()
        if path == key or path.startswith(f"{key}.")
        for found in values_at(inner, path[len(key) + 1 :])
    ]


def _same(left: JsonValue, right: JsonValue) -> bool:
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def _instant(value: JsonValue) -> datetime | None:
    if not isinstance(value, str) or len(value) < 10:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if len(value) == 10 else found
