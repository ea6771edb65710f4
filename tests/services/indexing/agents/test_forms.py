"""Which schemas are forms, and which values fit their fields."""

import time
from typing import Any

import pytest
from pydantic import BaseModel, Field

from services.indexing.agents import forms
from services.indexing.agents.forms import Array, Object, Value, form_of


class Mason(BaseModel):
    name: str = Field(description="who laid the stones")
    born: int | None = None


class Wall(BaseModel):
    masons: list[Mason]
    height: float = Field(ge=0)


def test_a_schema_of_a_pydantic_model_is_a_form() -> None:
    form = form_of(Wall.model_json_schema())
    masons = form.fields["masons"]
    assert isinstance(masons, Array) and isinstance(masons.items, Object)
    assert masons.items.required == {"name"}
    assert isinstance(masons.items.fields["born"], Value)
    assert list(forms.words_of(form)) == ["masons", "name", "who laid the stones", "born", "height"]
    written = forms.written_out(form)
    assert "$ref" not in str(written)
    assert written["properties"]["masons"]["items"]["properties"]["name"]["type"] == "string"


@pytest.mark.parametrize(
    ("schema", "fits", "does_not"),
    [
        ({"type": "integer"}, [1, 1.0, -3], [1.5, True, "1", None, [], {}]),
        ({"type": ["number", "null"], "minimum": 2, "exclusiveMaximum": 3}, [2, 2.9], [1.9, 3, None]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "abc"], ["a", "abcd", 2]),
        ({"enum": ["granite", "slate", None]}, ["granite"], ["sand", 1, None]),
        ({"const": 7}, [7], [8]),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, [True, False], ["true", 0]),
        ({"type": "string"}, ["a" * 2_000], ["a" * 2_001]),
    ],
)
def test_a_value_fits_its_field_or_not(schema: dict[str, Any], fits: list[Any], does_not: list[Any]) -> None:
    value = form_of({"properties": {"it": schema}}).fields["it"]
    assert isinstance(value, Value)
    assert [value.admits(each) for each in fits] == [True] * len(fits)
    assert [value.admits(each) for each in does_not] == [False] * len(does_not)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"properties": {"in": schema}}
    return schema


def doubling(levels: int) -> dict[str, Any]:
    """A schema that is short, and long once it is written out."""
    definitions: dict[str, Any] = {"d0": {"type": "string"}}
    for level in range(1, levels + 1):
        reference = {"$ref": f"#/$defs/d{level - 1}"}
        definitions[f"d{level}"] = {"properties": dict.fromkeys("abcdefgh", reference)}
    return {"properties": {"all": {"$ref": f"#/$defs/d{levels}"}}, "$defs": definitions}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({}, "the schema of an object"),
        ({"type": "array", "items": {"type": "string"}}, "the schema of an object"),
        ({"type": "object"}, "needs properties"),
        ({"properties": {"a": {"$ref": "https://example.com/schema.json"}}}, "leads into $defs"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "leads into $defs"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, "leads into $defs"),
        ({"properties": {"a": {"$dynamicRef": "#b"}}}, "$dynamicRef is not among"),
        ({"properties": {"a": {"type": "string", "$id": "https://example.com"}}}, "$id is not among"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"$ref": "#/$defs/b"}}}, "refer to itself"),
        (
            {"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"properties": {"c": {"$ref": "#/$defs/b"}}}}},
            "refer to itself",
        ),
        ({"properties": {"a": {"type": "string", "pattern": "(a+)+$"}}}, "pattern is not among"),
        ({"patternProperties": {"(a+)+$": {}}, "properties": {"a": {}}}, "patternProperties is not among"),
        ({"properties": {"a": {"oneOf": [{"type": "string"}]}}}, "oneOf is not among"),
        ({"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}}, "may name one schema"),
        ({"properties": {"a": {"type": ["string", "integer"]}}}, "must be one of"),
        ({"properties": {"a": {"type": {"of": "string"}}}}, "must be one of"),
        ({"properties": {"a": {"type": "integer", "minimum": "2"}}}, "schema.a.minimum"),
        ({"properties": {"a": {"enum": []}}}, "schema.a.enum"),
        ({"properties": {"a": {"enum": [["granite"]]}}}, "schema.a.enum"),
        ({"properties": {"a": {"type": "array"}}}, "schema.a.items"),
        ({"properties": {"a": {}}, "required": ["b"]}, "must name properties"),
        ({"properties": {"a\n": {}}}, "printable"),
        ({"properties": {"a" * 65: {}}}, "printable"),
        ({"properties": {"a": {"description": "nothing\x00"}}}, "NUL"),
        ({"properties": {"a": {"description": "half \ud800"}}}, "surrogates"),
        ({"properties": {"a": {"description": "long" * 5_000}}}, "bytes"),
        ({"properties": {"a": {}}, "$schema": "http://json-schema.org/draft-07/schema#"}, "draft 2020-12"),
        (nested(forms.DEEPEST + 1), "deep"),
        ({"properties": {f"field{number}": {} for number in range(forms.MOST_FIELDS)}}, "fields"),
    ],
)
def test_what_is_no_form_is_refused_by_name(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as refused:
        form_of(schema)
    assert says in str(refused.value)


def test_a_schema_that_is_long_once_written_out_costs_little() -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match="fields"):
        form_of(doubling(7))
    assert time.process_time() - began < 1


def test_a_form_is_as_deep_as_it_may_be() -> None:
    assert isinstance(form_of(nested(forms.DEEPEST)), Object)


def test_names_are_parts_of_a_pointer() -> None:
    assert forms.escaped("a/b~c") == "a~1b~0c"
