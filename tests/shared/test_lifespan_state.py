"""What a lifespan yields reaches requests with its type, or not at all."""

import pytest
from starlette.requests import Request

from shared.lifespan_state import from_lifespan, resources_of


class Resources:
    pass


class MoreResources(Resources):
    pass


def test_requests_find_what_the_lifespan_yields() -> None:
    own = MoreResources()
    scope = {"type": "http", "state": {"resources": own, "limit": 3}}
    assert resources_of(scope, Resources) is resources_of(Request(scope), MoreResources) is own
    assert from_lifespan(scope, "limit", int) == 3


def test_what_is_not_there_or_is_something_else_is_refused() -> None:
    scope = {"type": "http", "state": {"resources": Resources()}}
    with pytest.raises(TypeError, match="yields Resources as resources, not MoreResources"):
        resources_of(scope, MoreResources)
    with pytest.raises(KeyError, match="limit"):
        from_lifespan(scope, "limit", int)
