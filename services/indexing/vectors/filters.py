"""The filter a client may put into a search: typed, bounded, and unable to name anything but a document's own facts.

Shape (see the public API): `{"all": [f, ...]}`, `{"any": [f, ...]}`, `{"not": f}` and conditions such as
`{"field": "metadata.lang", "eq": "en"}`. A condition may carry several operators; all must hold, and a `gt|gte|lt|lte`
set is one interval which a single value must lie in.

Meaning, the same on every vector engine:
- A metadata list matches when any of its elements does. `ne` negates `eq`, so it matches what lacks the field.
- `exists` is true for anything but a missing field, `null`, `[]` and `{}`.
- Numbers compare by value (`5` equals `5.0`), never with strings or booleans. `eq` and `prefix` are case-sensitive, and
  texts compare in NFC.
- `language` is the one that most of the document's text is in, an ISO 639-1 code in lower case; some have none.
- Intervals compare numbers with numbers, and RFC 3339 dates or date-times with strings of that form; a date is its
  midnight in UTC.
- Nested objects are reached by dots, also through lists: `metadata.authors.name`.

Limits: `MAX_DEPTH` levels, `MAX_NODES` conditions, of these `MAX_INTERVALS` intervals of metadata and `MAX_NEGATIONS`
negations, `MAX_LISTED` values in all lists, values as annotated. Anything else is a validation error (422).
"""

import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictStr,
    Tag,
    model_validator,
)

from shared.request_bodies import few_unknown_fields

MAX_DEPTH: Final = 8
MAX_NODES: Final = 200
MAX_PREFIX: Final = 255
# An engine looks at every point of the project for each of these: 2 to 8 microseconds a point for an interval, whose
# values are not indexed, 0.1 for a negation. `vectors.filter_costs` bounds the number of points for that.
MAX_INTERVALS: Final = 4
MAX_NEGATIONS: Final = 20
MAX_LISTED: Final = 2_000

_INTERVAL: Final = frozenset({"gt", "gte", "lt", "lte"})

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d(?:[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d))?", re.ASCII)


def parse_instant(text: str) -> datetime | None:
    """An RFC 3339 date or date-time (with its offset) in UTC, or None when `text` is not one."""
    if not _INSTANT.fullmatch(text):
        return None
    try:
        parsed = datetime.fromisoformat(text.upper())
        return parsed.replace(tzinfo=UTC) if len(text) == 10 else parsed.astimezone(UTC)
    except (ValueError, OverflowError):  # the 31st of February; an offset that leaves year 1 or 9999
        return None


def _instant(value: object) -> object:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    parsed = parse_instant(value) if isinstance(value, str) else None
    if parsed is None:
        raise ValueError("expected an RFC 3339 date, or date-time with an offset")
    return parsed


def composed(value: object) -> Any:
    """Text in NFC, as it is compared; anything else as it is."""
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def storable(text: str) -> str:
    """The text, if Postgres and an engine can hold it; raises ValueError otherwise."""
    if _UNSTORABLE.search(text):
        raise ValueError("text must not contain NUL or lone surrogates")
    return text


def _uuid(value: object) -> object:
    if not isinstance(value, str | UUID):
        raise ValueError("expected an id as a string")
    return value


def _fraction(value: object) -> object:
    if isinstance(value, int):  # an integer too large for Integer, which a float would round
        raise ValueError("the integer is too large")
    return value


Instant = Annotated[datetime, BeforeValidator(_instant)]
Text = Annotated[StrictStr, BeforeValidator(composed), Field(max_length=1024), AfterValidator(storable)]
Prefix = Annotated[
    StrictStr, BeforeValidator(composed), Field(min_length=1, max_length=MAX_PREFIX), AfterValidator(storable)
]
Language = Annotated[StrictStr, Field(pattern="^[a-z]{2}$", examples=["en"])]
Integer = Annotated[int, Field(strict=True, ge=-(2**63), le=2**63 - 1)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False), BeforeValidator(_fraction)]
# Strict types do not overlap, so the first that fits is the right one.
Scalar = Annotated[Text | StrictBool | Integer | Number, Field(union_mode="left_to_right")]
Bound = Integer | Number | Instant
Id = Annotated[UUID, BeforeValidator(_uuid)]


class _Node(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)

    @model_validator(mode="before")
    @classmethod
    def _few_unknown_fields(cls, value: object) -> object:
        return few_unknown_fields(value, cls)


class _Condition(_Node):
    @model_validator(mode="after")
    def _has_an_operator(self) -> Self:
        if all(getattr(self, name) is None for name in type(self).model_fields if name != "field"):
            raise ValueError("a condition needs an operator")
        return self


class MetadataCondition(_Condition):
    """A condition on a value of the document's metadata."""

    field: Annotated[str, Field(pattern=r'^metadata\.[^\x00-\x1f\x7f"\\]{1,200}$', examples=["metadata.lang"])]
    eq: Scalar | None = None
    ne: Scalar | None = None
    in_: Annotated[list[Scalar], Field(min_length=1, max_length=100, fail_fast=True)] | None = Field(
        default=None, alias="in"
    )
    gt: Bound | None = None
    gte: Bound | None = None
    lt: Bound | None = None
    lte: Bound | None = None
    exists: StrictBool | None = None
    prefix: Prefix | None = None

    @property
    def path(self) -> str:
        return self.field.removeprefix("metadata.")

    @model_validator(mode="after")
    def _bounds_of_one_kind(self) -> Self:
        bounds = [bound for bound in (self.gt, self.gte, self.lt, self.lte) if bound is not None]
        if len({isinstance(bound, datetime) for bound in bounds}) > 1:
            raise ValueError("the bounds of a range must be all numbers or all dates")
        return self


class DocumentCondition(_Condition):
    field: Literal["document_id"]
    eq: Id | None = None
    ne: Id | None = None
    in_: Annotated[list[Id], Field(min_length=1, max_length=1000, fail_fast=True)] | None = Field(
        default=None, alias="in"
    )


class NameCondition(_Condition):
    """A condition on the document's name."""

    field: Literal["name"]
    eq: Text | None = None
    ne: Text | None = None
    in_: Annotated[list[Text], Field(min_length=1, max_length=100, fail_fast=True)] | None = Field(
        default=None, alias="in"
    )
    prefix: Prefix | None = None


class LanguageCondition(_Condition):
    """A condition on the language that most of the document's text is in."""

    field: Literal["language"]
    eq: Language | None = None
    ne: Language | None = None
    in_: Annotated[list[Language], Field(min_length=1, max_length=100, fail_fast=True)] | None = Field(
        default=None, alias="in"
    )
    exists: StrictBool | None = None


class ContentTypeCondition(_Condition):
    field: Literal["content_type"]
    eq: Text | None = None
    ne: Text | None = None
    in_: Annotated[list[Text], Field(min_length=1, max_length=100, fail_fast=True)] | None = Field(
        default=None, alias="in"
    )
    prefix: Prefix | None = None


class CreatedAtCondition(_Condition):
    field: Literal["created_at"]
    eq: Instant | None = None
    ne: Instant | None = None
    gt: Instant | None = None
    gte: Instant | None = None
    lt: Instant | None = None
    lte: Instant | None = None


class AllOf(_Node):
    all: Annotated[list["FilterNode"], Field(min_length=1, max_length=MAX_NODES, fail_fast=True)]


class AnyOf(_Node):
    any: Annotated[list["FilterNode"], Field(min_length=1, max_length=MAX_NODES, fail_fast=True)]


class Not(_Node):
    not_: "FilterNode" = Field(alias="not")


_FIELDS: Final = ("document_id", "name", "language", "content_type", "created_at")


def _kind(value: object) -> str | None:
    """The tag of a node: by its combining key, else by the field it names. None is reported as an unknown tag."""
    if isinstance(value, AllOf | AnyOf | Not):
        return "all" if isinstance(value, AllOf) else "any" if isinstance(value, AnyOf) else "not"
    if isinstance(value, dict):
        for key in ("all", "any", "not"):
            if key in value:
                return key
        field = value.get("field")
    else:
        field = getattr(value, "field", None)
    if not isinstance(field, str):
        return None
    return field if field in _FIELDS else "metadata"


FilterNode = Annotated[
    Annotated[AllOf, Tag("all")]
    | Annotated[AnyOf, Tag("any")]
    | Annotated[Not, Tag("not")]
    | Annotated[MetadataCondition, Tag("metadata")]
    | Annotated[DocumentCondition, Tag("document_id")]
    | Annotated[NameCondition, Tag("name")]
    | Annotated[LanguageCondition, Tag("language")]
    | Annotated[ContentTypeCondition, Tag("content_type")]
    | Annotated[CreatedAtCondition, Tag("created_at")],
    Discriminator(
        _kind,
        custom_error_type="unknown_filter",
        custom_error_message="expected one of all, any, not, or a condition with a field and an operator",
    ),
]


def _children(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for key in ("all", "any"):
            if isinstance(value.get(key), list):
                yield from value[key]
        if "not" in value:
            yield value["not"]


def _bounded(value: object) -> object:
    """Refuses filters that are too deep or too large before parsing; iterative, so depth cannot exhaust the stack."""
    level, nodes = [value], list[object]()
    for _ in range(MAX_DEPTH):
        nodes += level
        if len(nodes) > MAX_NODES:
            raise ValueError(f"a filter may have at most {MAX_NODES} conditions")
        level = [child for node in level for child in _children(node)]
        if not level:
            _check_costs([node for node in nodes if isinstance(node, dict)])
            return value
    raise ValueError(f"a filter may be at most {MAX_DEPTH} levels deep")


def _check_costs(nodes: list[dict[str, object]]) -> None:
    intervals = sum(1 for node in nodes if not _INTERVAL.isdisjoint(node) and node.get("field") != "created_at")
    if intervals > MAX_INTERVALS:
        raise ValueError(f"a filter may have at most {MAX_INTERVALS} ranges of metadata")
    negations = sum(("not" in node) + ("ne" in node) + (node.get("exists") is False) for node in nodes)
    if negations > MAX_NEGATIONS:
        raise ValueError(f"a filter may have at most {MAX_NEGATIONS} negations")
    lists = [node.get(key) for node in nodes for key in ("in", "in_")]
    if sum(len(listed) for listed in lists if isinstance(listed, list)) > MAX_LISTED:
        raise ValueError(f"the lists of a filter may contain at most {MAX_LISTED} values")


AllOf.model_rebuild()
AnyOf.model_rebuild()
Not.model_rebuild()

Filter = Annotated[FilterNode, BeforeValidator(_bounded)]
"""Annotate the field of a request model with this: it is the bounded root of a filter."""
