"""Every route and all it depends on are coroutines.

FastAPI runs a plain function in a pool of threads, one for all tenants, and every call costs a hop there and back.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from services.identity.main import ROUTERS as IDENTITY
from services.indexing.main import ROUTERS as INDEXING
from services.notifier.streams.router import router as streams
from services.projects.main import ROUTERS as PROJECTS
from shared import operator_api
from shared.invalidations.router import router as invalidations

ROUTERS = {
    "identity": (*IDENTITY, invalidations),
    "indexing": INDEXING,
    "notifier": (streams,),
    "projects": PROJECTS,
    "operators": (operator_api.router,),
}


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    if dependant.call is not None:
        yield dependant.call
    for each in dependant.dependencies:
        yield from _calls(each)


@pytest.mark.parametrize("routers", ROUTERS.values(), ids=ROUTERS)
def test_nothing_of_a_route_is_sent_to_a_thread(routers: Sequence[APIRouter]) -> None:
    calls = {
        call
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
        for call in _calls(route.dependant)
    }
    plain = {
        f"{call.__module__}.{call.__qualname__}"
        for call in calls
        if inspect.isfunction(call) and not inspect.iscoroutinefunction(call) and not inspect.isasyncgenfunction(call)
    }
    assert calls
    assert not plain
