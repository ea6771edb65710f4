"""Merging the services' OpenAPI documents: pure functions over JSON objects.

Only paths that the gateway routes to the service are in the result, so nothing internal is. A component whose name
another service uses for something else gets the service's name in front, and so does every component that refers to it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from services.gateway import routes
from services.gateway.admission.credentials import SESSION_COOKIE
from services.gateway.routes import SAFE_METHODS, Access
from shared.problems import Problem

VERSION: Final = "0.1.0"
"""The product's, as pyproject.toml has it, which an image does not hold."""

Document = dict[str, Any]
_REF: Final = re.compile(r"#/components/([^/]+)/([^/]+)")
_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch")
_PROBLEM: Final = {"$ref": "#/components/responses/Problem"}
_FRAMEWORKS_OWN: Final = frozenset({"HTTPValidationError", "ValidationError"})

_SECURITY_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key (`qk_...`) or an access token."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": SESSION_COOKIE,
        "description": "A signed-in browser's session.",
    },
    "csrf": {
        "type": "apiKey",
        "in": "header",
        "name": "X-CSRF-Token",
        "description": "The value of the CSRF cookie; required with a session on every unsafe method.",
    },
}


def merge(documents: Mapping[str, Document], *, public_url: str) -> Document:
    """One document from one per service, in the order given."""
    paths: Document = {}
    components: dict[str, Document] = {}
    tags: dict[str, Document] = {}
    for service, original in documents.items():
        document = _renamed(service, original, components)
        for section, items in document.get("components", {}).items():
            components.setdefault(section, {}).update(items)
        for tag in document.get("tags", ()):
            tags.setdefault(tag["name"], tag)
        for path, item in document.get("paths", {}).items():
            public = {method: value for method, value in item.items() if _is_public(service, method, path)}
            if any(method in _METHODS for method in public):
                paths[path] = {
                    key: _operation(service, key, path, value) if key in _METHODS else value
                    for key, value in public.items()
                }
    merged: Document = {
        "openapi": "3.1.0",
        "info": {"title": "Quarry", "version": VERSION, "description": "Upload, see it live, find it."},
        "servers": [{"url": public_url}],
        "paths": dict(sorted(paths.items())),
        "components": {**components, **_own_components(components)},
    }
    if tags:
        merged["tags"] = [tags[name] for name in sorted(tags)]
    _drop_unused(merged)
    return merged


def _own_components(components: Mapping[str, Document]) -> dict[str, Document]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    responses = {
        **components.get("responses", {}),
        "Problem": {"description": "An error (RFC 9457)", "content": content},
    }
    schemas = {**components.get("schemas", {}), "Problem": Problem.model_json_schema()}
    return {"responses": responses, "schemas": schemas, "securitySchemes": dict(_SECURITY_SCHEMES)}


def _is_public(service: str, method: str, path: str) -> bool:
    """Whether the gateway sends this path to this service; other keys of a path item go with it."""
    if method not in _METHODS:
        return True
    route = routes.match(method.upper(), re.sub(r"\{[^}]*\}", "x", path))
    return route is not None and route.upstream == service


def _operation(service: str, method: str, path: str, operation: Document) -> Document:
    route = routes.match(method.upper(), re.sub(r"\{[^}]*\}", "x", path))
    anonymous = route is not None and route.access is not Access.CREDENTIAL
    sessions = route is None or route.sessions
    responses = {
        status: response
        for status, response in operation.get("responses", {}).items()
        if not any(name in _FRAMEWORKS_OWN for _, name in _references(response))
    }
    if len(responses) < len(operation.get("responses", {})):
        responses["422"] = _PROBLEM
    if not anonymous:
        responses.setdefault("401", _PROBLEM)
    responses |= {status: responses.get(status, _PROBLEM) for status in ("429", "503", "default")}
    session: dict[str, list[str]] = {"session": []} if method.upper() in SAFE_METHODS else {"session": [], "csrf": []}
    return {
        **operation,
        "operationId": f"{service}_{operation.get('operationId', method + path)}",
        "responses": responses,
        "security": [] if anonymous else [{"bearer": []}, *([session] if sessions else [])],
    }


def _renamed(service: str, document: Document, taken: Mapping[str, Document]) -> Document:
    """`document` with components renamed whose name is taken for something else."""
    own = {
        (section, name): component
        for section, items in document.get("components", {}).items()
        for name, component in items.items()
    }
    clashing = {key for key, component in own.items() if taken.get(key[0], {}).get(key[1], component) != component}
    while True:
        # What looks the same but refers to something renamed is not the same.
        drawn_in = {
            key
            for key, component in own.items()
            if key not in clashing and key[1] in taken.get(key[0], {}) and clashing & set(_references(component))
        }
        if not drawn_in:
            break
        clashing |= drawn_in
    names = {key: f"{service.capitalize()}{key[1]}" for key in clashing}
    renamed: Document = _with_references(document, names)
    renamed["components"] = {
        section: {names.get((section, name), name): component for name, component in items.items()}
        for section, items in renamed.get("components", {}).items()
    }
    return renamed


def _references(value: Any) -> Iterator[tuple[str, str]]:
    """(section, name) of every component that `value` refers to."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)
    elif isinstance(value, str) and (found := _REF.fullmatch(value)):
        yield found[1], found[2]


def _with_references(value: Any, names: Mapping[tuple[str, str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _with_references(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_references(item, names) for item in value]
    if isinstance(value, str) and (found := _REF.fullmatch(value)) and (found[1], found[2]) in names:
        return f"#/components/{found[1]}/{names[found[1], found[2]]}"
    return value


def _drop_unused(document: Document) -> None:
    """Remove components that no public path leads to; security schemes are referred to by name and stay."""
    components = document["components"]
    used: set[tuple[str, str]] = set()
    waiting = list(_references(document["paths"]))
    while waiting:
        key = waiting.pop()
        if key not in used and key[1] in components.get(key[0], {}):
            used.add(key)
            waiting.extend(_references(components[key[0]][key[1]]))
    document["components"] = {
        section: dict(
            sorted(
                (name, item) for name, item in items.items() if section == "securitySchemes" or (section, name) in used
            )
        )
        for section, items in components.items()
    }
