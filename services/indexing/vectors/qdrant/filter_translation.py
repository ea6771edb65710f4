"""The filter grammar, as far as `scoped_filters.py` speaks it, as models of the Qdrant client.

As strict as for the embedded engine (embedded/filters.py): an unknown condition is an error, and never left out.
"""

from typing import Any

from qdrant_client import models

JsonObject = dict[str, Any]


def filter_of(where: JsonObject) -> models.Filter:
    condition = _condition(where)
    return condition if isinstance(condition, models.Filter) else models.Filter(must=[condition])


def _condition(node: JsonObject) -> models.Filter | models.FieldCondition | models.HasIdCondition:
    match node:
        case {"must": [*conditions], **rest} if not rest:
            return models.Filter(must=_conditions(conditions))
        case {"should": [_, *_] as conditions, **rest} if not rest:
            return models.Filter(should=_conditions(conditions))
        case {"must_not": [*conditions], **rest} if not rest:
            return models.Filter(must_not=_conditions(conditions))
        case {"has_id": [str(), *_] as ids, **rest} if not rest:
            return models.HasIdCondition(has_id=ids)
        case {"key": str(key), "match": dict(match), **rest} if not rest:
            return models.FieldCondition(key=key, match=_match(match))
        case {"key": str(key), "range": dict(bounds), **rest} if not rest:
            return models.FieldCondition(key=key, range=_range(bounds))
        case _:
            raise ValueError(f"unknown condition: {sorted(node)}")


def _conditions(nodes: list[Any]) -> list[models.Condition]:
    return [_condition(node) for node in nodes]


def _match(match: JsonObject) -> models.Match:
    match match:
        case {"value": bool()}:
            raise ValueError("booleans are facts here")
        case {"value": str() | int() as value, **rest} if not rest:
            return models.MatchValue(value=value)
        case {"any": [str(), *_] as values, **rest} if not rest:
            return models.MatchAny(any=values)
        case {"prefix": str(prefix), **rest} if not rest:
            return models.MatchPrefix(prefix=prefix)
        case _:
            raise ValueError(f"unknown match: {sorted(match)}")


def _range(bounds: JsonObject) -> models.RangeInterface:
    if not bounds or not bounds.keys() <= {"gt", "gte", "lt", "lte"}:
        raise ValueError(f"unknown range: {sorted(bounds)}")
    if all(isinstance(bound, str) for bound in bounds.values()):
        return models.DatetimeRange(**bounds)
    return models.Range(**bounds)
