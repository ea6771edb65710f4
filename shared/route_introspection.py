"""What is known of the routes of an application before one of them runs, read from the routes themselves.

A path has one set of methods, however many routes serve it: `HEAD` wherever there is `GET`, `OPTIONS` everywhere. A
route's query parameters are those that it and its dependencies declare.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args, get_origin

from fastapi import APIRouter, Depends, params
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from shared.deferred_parsing import UnparsedRoute

JSON_BYTES: Final = 256 * 1024
"""How large a JSON body may be where its route does not say otherwise with `max_body_size`."""

_METHODS: Final = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


async def _any_query() -> None:
    """A marker that does nothing."""


AnyQuery: Final = Depends(_any_query)
"""Among the `dependencies` of a route whose callers add query parameters that we cannot know."""


@dataclass(frozen=True, slots=True)
class RouteRules:
    """What a request must keep to. `query`: the names it may use and whether each may be there more than once; None for
    any. `json_bytes`: the most bytes of its JSON body; None when the route takes none. `unparsed`: the route parses its
    body itself."""

    route: APIRoute
    query: Mapping[str, bool] | None
    json_bytes: int | None
    unparsed: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A path and what serves it, by method; `HEAD` is served by `GET`."""

    pattern: re.Pattern[str]
    rules: Mapping[str, RouteRules]
    allow: str
    """The value of the header `Allow`."""


class RouteTable:
    """Places by their paths. Made once per application."""

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        routes: dict[str, list[APIRoute]] = {}
        for router in routers:
            for route in router.routes:
                if isinstance(route, APIRoute):
                    routes.setdefault(route.path, []).append(route)
        # By depth, so that a request is compared with a few patterns instead of all.
        self._by_depth: dict[int, list[Place]] = {}
        for path, answering in routes.items():
            self._by_depth.setdefault(path.count("/"), []).append(_place(answering))

    def find(self, path: str) -> Place | None:
        """The place a path leads to, if it is one of ours. Methods that a fixed path lacks may come from a pattern."""
        found = [place for place in self._by_depth.get(path.count("/"), ()) if place.pattern.match(path)]
        if len(found) < 2:
            return found[0] if found else None
        rules: dict[str, RouteRules] = {}
        for place in reversed(found):
            rules.update(place.rules)
        return Place(found[0].pattern, rules, _allow(rules))


def _place(routes: Sequence[APIRoute]) -> Place:
    rules: dict[str, RouteRules] = {}
    for route in routes:
        for method in route.methods or ():
            rules.setdefault(method, _rules(route))
    if "GET" in rules:
        rules["HEAD"] = rules["GET"]
    return Place(routes[0].path_regex, rules, _allow(rules))


def _allow(rules: Mapping[str, RouteRules]) -> str:
    return ", ".join(method for method in _METHODS if method in rules or method == "OPTIONS")


def _rules(route: APIRoute) -> RouteRules:
    takes_json = route.body_field is not None and not isinstance(route.body_field.field_info, params.Form)
    limit: int | None = getattr(route, "max_body_size", None)
    json_bytes = (limit or JSON_BYTES) if takes_json else None
    return RouteRules(route, _query_of(route.dependant), json_bytes, isinstance(route, UnparsedRoute))


def _query_of(dependant: Dependant) -> Mapping[str, bool] | None:
    found: dict[str, bool] = {}
    for part in _with_dependencies(dependant):
        if part.call is _any_query:
            return None
        for parameter in part.query_params:
            found[parameter.alias] = _is_list(parameter.field_info.annotation)
    return found


def _with_dependencies(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for below in dependant.dependencies:
        yield from _with_dependencies(below)


def _is_list(annotation: Any) -> bool:
    return any(get_origin(choice) in (list, tuple, set, frozenset) for choice in (annotation, *get_args(annotation)))
