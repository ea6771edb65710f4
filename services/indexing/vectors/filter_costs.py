"""What a filter costs an engine: a weight for each point of the project, in units of about 0.03 microseconds.

An embedded engine serves one call at a time, so all other tenants wait for as long as one tenant's filter takes.
"""

from collections.abc import Iterator
from typing import Final

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

INTERVAL: Final = 100
"""Of metadata: not indexed, so the payload of each point is read."""
NEGATION: Final = 4
PREFIX: Final = 2
CONDITION: Final = 1
_LISTED: Final = 20
"""How many values of a list weigh as much as a condition."""

CHEAP: Final = 10
"""Up to this weight a filter is allowed in any project: ranking the points costs as much."""
MOST: Final = 10_000_000
"""Weight times points: an interval over 100,000 passages, or fifty other conditions over 200,000. About 0.3 s."""


def weight(node: FilterNode) -> int:
    match node:
        case AllOf():
            return sum(map(weight, node.all))
        case AnyOf():
            return sum(map(weight, node.any))
        case Not():
            return NEGATION + weight(node.not_)
        case _:
            return sum(_of_operators(node))


def _of_operators(
    node: MetadataCondition
    | NameCondition
    | LanguageCondition
    | DocumentCondition
    | ContentTypeCondition
    | CreatedAtCondition,
) -> Iterator[int]:
    operators = node.model_dump(exclude={"field"}, exclude_none=True)
    if not operators.keys().isdisjoint({"gt", "gte", "lt", "lte"}):
        yield INTERVAL if isinstance(node, MetadataCondition) else CONDITION
    if "ne" in operators or operators.get("exists") is False:
        yield NEGATION
    if "prefix" in operators:
        yield PREFIX
    yield CONDITION + len(operators.get("in_", ())) // _LISTED
