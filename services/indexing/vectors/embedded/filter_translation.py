"""Qdrant's JSON filter grammar, as far as `scoped_filters.py` speaks it, as objects of the embedded engine.

Strict: an unknown condition is an error and never ignored, because an ignored condition widens a filter.
"""

from __future__ import annotations  # some of the engine's type names exist only in its stubs

from typing import Any, cast
from uuid import UUID

import qdrant_edge as edge

JsonObject = dict[str, Any]


def filter_of(where: JsonObject) -> edge.Filter:
    condition = _condition(where)
    return condition if isinstance(condition, edge.Filter) else edge.Filter(must=[condition])


def _condition(node: JsonObject) -> edge.Filter | edge.FieldCondition | edge.HasIdCondition:
    match node:
        case {"must": [*conditions], **rest} if not rest:
            return edge.Filter(must=_conditions(conditions))
        case {"should": [_, *_] as conditions, **rest} if not rest:
            return edge.Filter(should=_conditions(conditions))
        case {"must_not": [*conditions], **rest} if not rest:
            return edge.Filter(must_not=_conditions(conditions))
        case {"has_id": [str(), *_] as ids, **rest} if not rest:
            return edge.HasIdCondition({UUID(point) for point in ids})
        case {"key": str(key), "match": dict(match), **rest} if not rest:
            return edge.FieldCondition(key, match=_match(match))
        case {"key": str(key), "range": dict(bounds), **rest} if not rest:
            return edge.FieldCondition(key, range=_range(bounds))
        case _:
            raise ValueError(f"unknown condition: {sorted(node)}")


def _conditions(nodes: list[Any]) -> list[edge.ConditionType]:
    return [_condition(node) for node in nodes]


def _match(match: JsonObject) -> edge.MatchType:
    match match:
        case {"value": bool()}:
            raise ValueError("this engine compares booleans as integers")
        case {"value": str() | int() as value, **rest} if not rest:
            return edge.MatchValue(value)
        case {"any": [str(), *_] as values, **rest} if not rest:
            return edge.MatchAny(values)
        case {"prefix": str(prefix), **rest} if not rest:
            return edge.MatchPrefix(prefix)
        case _:
            raise ValueError(f"unknown match: {sorted(match)}")


def _range(bounds: JsonObject) -> edge.RangeType:
    if not bounds or not bounds.keys() <= {"gt", "gte", "lt", "lte"}:
        raise ValueError(f"unknown range: {sorted(bounds)}")
    if all(isinstance(bound, str) for bound in bounds.values()):
        return edge.RangeDateTime(**cast(dict[str, str], bounds))
    return edge.RangeFloat(**cast(dict[str, float], bounds))
