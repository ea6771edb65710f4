"""Forms: JSON Schemas (draft 2020-12) of what is to be filled in from documents, as a tree of fields.

A schema describes objects, arrays and single values, as deep as `DEEPEST`; `$ref` leads into its own `$defs` and is
replaced by what it names, so nothing is ever fetched. What a schema may say of a value is bounded as well: keywords
whose cost a value decides (`pattern`) or whose combinations multiply (`oneOf`, `not`, ...) are refused by name, and so
is a schema that refers to itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Final

import orjson
from jsonschema import Draft202012Validator
from pydantic import ConfigDict, JsonValue, NonNegativeInt, TypeAdapter, ValidationError, with_config
from pydantic import Field as Within
from referencing import Registry
from typing_extensions import TypedDict

LONGEST: Final = 16_384
"""Bytes of a schema."""
DEEPEST: Final = 8
MOST_FIELDS: Final = 200
"""Objects, arrays and values of a form, all that it refers to written out."""

_LONGEST_NAME: Final = 64
_LONGEST_VALUE: Final = 2_000
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE: Final = "#/$defs/"
_NOTES: Final = frozenset({"title", "description", "default", "examples", "deprecated", "$comment", "format"})
_OF_OBJECTS: Final = frozenset({"type", "properties", "required", "additionalProperties"})
_OF_ARRAYS: Final = frozenset({"type", "items", "minItems", "maxItems", "uniqueItems"})
_KINDS: Final = frozenset({"object", "array", "string", "number", "integer", "boolean"})


@with_config(ConfigDict(strict=True))
class _OfValues(TypedDict, total=False):
    """What a schema may say of a single value, beside its type."""

    enum: Annotated[list[str | int | float | bool | None], Within(min_length=1, max_length=MOST_FIELDS)]
    const: str | int | float | bool
    minimum: float
    maximum: float
    exclusiveMinimum: float
    exclusiveMaximum: float
    minLength: NonNegativeInt
    maxLength: NonNegativeInt


_OF_VALUES: Final = frozenset(_OfValues.__annotations__)
_VALUE: Final = TypeAdapter(_OfValues)


@dataclass(frozen=True)
class Value:
    """A string, a number or a boolean."""

    schema: Mapping[str, Any]

    @cached_property
    def _validator(self) -> Draft202012Validator:
        # The registry is empty: no schema is looked for elsewhere, whatever the library does by itself.
        return Draft202012Validator(self.schema, registry=Registry())

    def admits(self, value: JsonValue) -> bool:
        """Whether a value fits."""
        if not isinstance(value, str | int | float) or (isinstance(value, str) and len(value) > _LONGEST_VALUE):
            return False
        return self._validator.is_valid(value)


@dataclass(frozen=True)
class Array:
    """Any number of the same. How many there have to be is told to whoever fills it in, and not enforced."""

    schema: Mapping[str, Any]
    items: "Field"


@dataclass(frozen=True)
class Object:
    """Fields by name."""

    schema: Mapping[str, Any]
    fields: Mapping[str, "Field"]
    required: frozenset[str]


Field = Object | Array | Value


def form_of(schema: Mapping[str, Any]) -> Object:
    """The form that a schema describes.

    Raises:
        ValueError: it is no schema of an object, or not within bounds; says what is wrong, and where.
    """
    try:
        text = orjson.dumps(schema)
    except orjson.JSONEncodeError as error:
        raise ValueError("text must not contain lone surrogates") from error
    if len(text) > LONGEST or rb"\u0000" in text:
        raise ValueError(f"a schema may have {LONGEST} bytes, and no NUL")
    definitions = schema.get("$defs", {})
    if schema.get("$schema", _DIALECT) != _DIALECT:
        raise ValueError("only draft 2020-12 of JSON Schema is known")
    if not isinstance(definitions, dict):
        raise ValueError("$defs: must be an object")
    root = _Reader(definitions).field({key: part for key, part in schema.items() if key not in ("$schema", "$defs")})
    if not isinstance(root, Object):
        raise ValueError("the schema of an object is needed")
    return root


def written_out(field: Field) -> dict[str, Any]:
    """The schema of a field, without references."""
    match field:
        case Object():
            return {**field.schema, "properties": {name: written_out(part) for name, part in field.fields.items()}}
        case Array():
            return {**field.schema, "items": written_out(field.items)}
        case Value():
            return dict(field.schema)


def words_of(field: Field) -> Iterator[str]:
    """What a form says of what is looked for: names and descriptions."""
    if description := field.schema.get("description"):
        yield description
    if isinstance(field, Array):
        yield from words_of(field.items)
    if isinstance(field, Object):
        for name, part in field.fields.items():
            yield name.replace("_", " ")
            yield from words_of(part)


def escaped(name: str) -> str:
    """A name as a part of a JSON Pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


class _Reader:
    """Of one schema."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._fields = 0

    def field(self, schema: Any, where: str = "schema", seen: frozenset[str] = frozenset(), depth: int = 0) -> Field:
        """The field that a part of the schema describes; `seen` are references that led here."""
        if not isinstance(schema, dict):
            raise ValueError(f"{where}: must be a schema")
        self._fields += 1
        if self._fields > MOST_FIELDS or depth > DEEPEST:
            raise ValueError(f"a schema may have {MOST_FIELDS} fields, {DEEPEST} deep")
        for text in (schema.get("title"), schema.get("description")):
            if text is not None and not isinstance(text, str):
                raise ValueError(f"{where}: a title and a description are text")
        if "$ref" in schema:
            return self._referred(schema, where, seen, depth)
        if "anyOf" in schema:
            return self.field(_without_null(schema, where), where, seen, depth)
        kind = _kind(schema, where)
        if kind == "object":
            return self._object(schema, where, seen, depth)
        if kind == "array":
            _known(schema, _OF_ARRAYS, where)
            items = self.field(schema.get("items"), f"{where}.items", seen, depth + 1)
            return Array({**schema, "type": "array"}, items)
        _known(schema, _OF_VALUES | {"type"}, where)
        try:
            _VALUE.validate_python({key: part for key, part in schema.items() if key in _OF_VALUES})
        except ValidationError as error:
            wrong = error.errors()[0]
            raise ValueError(f"{where}.{wrong['loc'][0]}: {wrong['msg']}") from error
        return Value(schema if kind is None else {**schema, "type": kind})

    def _referred(self, schema: Mapping[str, Any], where: str, seen: frozenset[str], depth: int) -> Field:
        reference = schema["$ref"]
        name = reference.removeprefix(_REFERENCE) if isinstance(reference, str) else ""
        if reference != f"{_REFERENCE}{name}" or name not in self._definitions:
            raise ValueError(f"{where}: $ref leads into $defs, and nowhere else")
        if name in seen:
            raise ValueError(f"{where}: a schema must not refer to itself")
        definition = self._definitions[name]
        notes = {key: part for key, part in schema.items() if key != "$ref"}
        _known(notes, frozenset(), where)
        if not isinstance(definition, dict):
            raise ValueError(f"{where}: must be a schema")
        return self.field({**definition, **notes}, where, seen | {name}, depth)

    def _object(self, schema: Mapping[str, Any], where: str, seen: frozenset[str], depth: int) -> Object:
        _known(schema, _OF_OBJECTS, where)
        properties, required = schema.get("properties"), schema.get("required", [])
        if not isinstance(properties, dict) or not properties:
            raise ValueError(f"{where}: an object needs properties")
        if not isinstance(required, list) or not all(isinstance(name, str) and name in properties for name in required):
            raise ValueError(f"{where}.required: must name properties")
        if not isinstance(schema.get("additionalProperties", False), bool):
            raise ValueError(f"{where}.additionalProperties: must be true or false")
        fields = {}
        for name, part in properties.items():
            if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
                raise ValueError(f"{where}: names have up to {_LONGEST_NAME} printable characters")
            fields[name] = self.field(part, f"{where}.{name}", seen, depth + 1)
        return Object({**schema, "type": "object"}, fields, frozenset(required))


def _kind(schema: Mapping[str, Any], where: str) -> str | None:
    """`object`, `array`, the type of a value, or None for a value of any: null is what was not found."""
    kinds = schema.get("type")
    if kinds is None:
        return "object" if "properties" in schema else "array" if "items" in schema else None
    named = [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if kind != "null"]
    kind = named[0] if len(named) == 1 else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"{where}.type: must be one of {', '.join(sorted(_KINDS))}, or it and null")
    return kind


def _without_null(schema: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What `anyOf` leaves to choose between something and null."""
    choices = schema["anyOf"]
    left = [choice for choice in choices if choice != {"type": "null"}] if isinstance(choices, list) else []
    notes = {key: part for key, part in schema.items() if key != "anyOf"}
    _known(notes, frozenset(), where)
    if len(left) != 1 or not isinstance(left[0], dict):
        raise ValueError(f"{where}.anyOf: may name one schema, and null")
    return {**left[0], **notes}


def _known(schema: Mapping[str, Any], keywords: frozenset[str], where: str) -> None:
    if unknown := sorted(schema.keys() - keywords - _NOTES):
        raise ValueError(f"{where}: {unknown[0][:_LONGEST_NAME]} is not among the keywords that are known here")
