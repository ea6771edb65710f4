"""What a client may send is bounded in what can be found wrong with it: true of the schemas of every service."""

from collections.abc import Iterator
from types import NoneType
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from services.identity.main import ROUTERS as IDENTITY
from services.indexing.main import ROUTERS as INDEXING
from services.notifier.streams.router import router as notifier
from services.projects.main import ROUTERS as PROJECTS
from shared.deferred_parsing import Unparsed
from shared.operator_api import router as operators
from shared.problems import MAX_SHOWN_ERRORS
from shared.route_introspection import RouteTable

ROUTERS = (*IDENTITY, *INDEXING, *PROJECTS, notifier, operators)


def bodies() -> list[type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}
    for router in ROUTERS:
        for route in router.routes:
            field = getattr(route, "body_field", None)
            if field is not None:
                model = field.field_info.annotation
                if get_origin(model) is Unparsed:
                    (model,) = get_args(model)
                # A body that may be left out is a union with None.
                models = [one for one in get_args(model) if one is not NoneType] or [model]
                found |= {one.__name__: one for one in models}
    return [found[name] for name in sorted(found)]


def lists_in(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") in ("list", "set", "frozenset", "tuple"):
            yield schema
        for value in schema.values():
            yield from lists_in(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from lists_in(value)


def test_there_are_bodies_to_look_at() -> None:
    assert {"ApiKeyCreate", "ProjectCreate", "SearchRequest"} <= {model.__name__ for model in bodies()}


@pytest.mark.parametrize("model", bodies(), ids=lambda model: model.__name__)
def test_a_list_is_refused_at_its_first_wrong_item(model: type[BaseModel]) -> None:
    for schema in lists_in(model.__pydantic_core_schema__):
        # A tuple has a schema for each item; `Any` finds nothing wrong.
        items = schema.get("items_schema")
        if items is not None and items != {"type": "any"}:
            assert schema.get("fail_fast"), schema


@pytest.mark.parametrize("model", bodies(), ids=lambda model: model.__name__)
def test_many_unknown_fields_are_one_error(model: type[BaseModel]) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate({f"unknown{number}": number for number in range(5000)})
    assert refused.value.error_count() <= MAX_SHOWN_ERRORS


def test_every_route_of_every_service_says_what_its_query_holds() -> None:
    table = RouteTable(ROUTERS)
    for path, known in (
        ("/v1/projects", {"status", "limit", "cursor"}),
        ("/v1/projects/1/documents", {"status", "name", "sha256", "limit", "cursor"}),
        ("/v1/projects/1/events", {"last_event_id"}),
        ("/v1/events", {"last_event_id"}),
        ("/auth/login/dev", {"return_to"}),
        ("/v1/me", set()),
    ):
        place = table.find(path)
        assert place is not None
        query = place.rules["HEAD"].query
        assert query is not None and set(query) == known, path
    callback = table.find("/auth/callback/dev")
    assert callback is not None and callback.rules["GET"].query is None
