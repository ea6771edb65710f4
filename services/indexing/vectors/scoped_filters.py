"""The user's filter in the engine's grammar, and the scope around it.

`scoped` is the only way a condition reaches an engine from a project: `must: [tenant, project, the rest as one nested
filter]`. Whatever the rest says (any, not, not of not, ids), a conjunction can only narrow.
"""

from collections.abc import Sequence
from uuid import UUID

from pydantic import JsonValue

from services.indexing.vectors import metadata_terms
from services.indexing.vectors.engine import Condition
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


def equals(key: str, value: UUID | str | int) -> Condition:
    return {"key": key, "match": {"value": str(value) if isinstance(value, UUID) else value}}


def one_of(key: str, values: Sequence[str]) -> Condition:
    return {"key": key, "match": {"any": list(values)}}


def has_id(ids: Sequence[UUID]) -> Condition:
    return {"has_id": [str(point) for point in ids]}


def every(*conditions: Condition) -> Condition:
    return {"must": list[JsonValue](conditions)}


def some(*conditions: Condition) -> Condition:
    return {"should": list[JsonValue](conditions)}


def none(condition: Condition) -> Condition:
    return {"must_not": [condition]}


def scoped(scope: Sequence[Condition], *conditions: Condition) -> Condition:
    """The scope's conditions and, nested beneath them, everything else."""
    return every(*scope, *(every(condition) for condition in conditions))


def of_filter(node: FilterNode) -> Condition:
    match node:
        case AllOf():
            return every(*map(of_filter, node.all))
        case AnyOf():
            return some(*map(of_filter, node.any))
        case Not():
            return none(of_filter(node.not_))
        case _:
            return every(*_of_condition(node))


def names_facts(node: FilterNode) -> bool:
    """Whether it asks for something that not every chunk may carry (`metadata_terms`)."""
    match node:
        case AllOf():
            return any(map(names_facts, node.all))
        case AnyOf():
            return any(map(names_facts, node.any))
        case Not():
            return names_facts(node.not_)
        case _:
            return isinstance(node, MetadataCondition | NameCondition | LanguageCondition)


def _of_condition(
    node: MetadataCondition
    | NameCondition
    | LanguageCondition
    | DocumentCondition
    | ContentTypeCondition
    | CreatedAtCondition,
) -> list[Condition]:
    match node:
        case MetadataCondition():
            return _of_metadata(node)
        case NameCondition():
            return _of_fact(metadata_terms.NAME, node, prefix=node.prefix)
        case LanguageCondition():
            return _of_fact(metadata_terms.LANGUAGE, node, exists=node.exists)
        case DocumentCondition():
            return _of_document(node)
        case ContentTypeCondition():
            return _of_content_type(node)
        case CreatedAtCondition():
            return _of_created_at(node)


def _of_metadata(node: MetadataCondition) -> list[Condition]:
    path = node.path
    conditions = _of_fact(path, node, prefix=node.prefix, exists=node.exists)
    bounds = _bounds(node)
    if bounds:
        instants = any(isinstance(bound, str) for bound in bounds.values())
        # Intervals are not indexed; existence of the field is, and avoids reading the payload of points without it.
        conditions.append(equals("facts", metadata_terms.existence(path)))
        conditions.append({"key": f'{"instants" if instants else "numbers"}."{path}"', "range": bounds})
    return conditions


def _of_fact(
    path: str,
    node: MetadataCondition | NameCondition | LanguageCondition,
    *,
    prefix: str | None = None,
    exists: bool | None = None,
) -> list[Condition]:
    conditions = []
    if node.eq is not None:
        conditions.append(equals("facts", metadata_terms.equality(path, node.eq)))
    if node.ne is not None:
        conditions.append(none(equals("facts", metadata_terms.equality(path, node.ne))))
    if node.in_ is not None:
        conditions.append(one_of("facts", [metadata_terms.equality(path, value) for value in node.in_]))
    if exists is not None:
        there = equals("facts", metadata_terms.existence(path))
        conditions.append(there if exists else none(there))
    if prefix is not None:
        conditions.append(_starts_with("facts", metadata_terms.text_prefix(path, prefix)))
    return conditions


def _of_document(node: DocumentCondition) -> list[Condition]:
    conditions = []
    if node.eq is not None:
        conditions.append(equals("document_id", node.eq))
    if node.ne is not None:
        conditions.append(none(equals("document_id", node.ne)))
    if node.in_ is not None:
        conditions.append(one_of("document_id", [str(value) for value in node.in_]))
    return conditions


def _of_content_type(node: ContentTypeCondition) -> list[Condition]:
    conditions = []
    if node.eq is not None:
        conditions.append(equals("content_type", node.eq))
    if node.ne is not None:
        conditions.append(none(equals("content_type", node.ne)))
    if node.in_ is not None:
        conditions.append(one_of("content_type", node.in_))
    if node.prefix is not None:
        conditions.append(_starts_with("content_type", node.prefix))
    return conditions


def _of_created_at(node: CreatedAtCondition) -> list[Condition]:
    conditions: list[Condition] = []
    if node.eq is not None:
        conditions.append(_at(node.eq.isoformat()))
    if node.ne is not None:
        conditions.append(none(_at(node.ne.isoformat())))
    bounds = _bounds(node)
    if bounds:
        conditions.append({"key": "created_at", "range": bounds})
    return conditions


def _at(instant: str) -> Condition:
    return {"key": "created_at", "range": {"gte": instant, "lte": instant}}


def _starts_with(key: str, prefix: str) -> Condition:
    return {"key": key, "match": {"prefix": prefix}}


def _bounds(node: MetadataCondition | CreatedAtCondition) -> dict[str, JsonValue]:
    bounds = {"gt": node.gt, "gte": node.gte, "lt": node.lt, "lte": node.lte}
    return {
        name: bound if isinstance(bound, int | float) else bound.isoformat()
        for name, bound in bounds.items()
        if bound is not None
    }
