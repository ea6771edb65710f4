"""A way in that nobody has thought about turns the run red, and says what is to be done."""

import uuid
from typing import Annotated

from fastapi import APIRouter, FastAPI, Header
from pydantic import BaseModel

from services.gateway.openapi.merge import merge
from services.identity.main import ROUTERS as IDENTITY
from services.indexing.main import ROUTERS as INDEXING
from services.notifier.streams.router import router as notifier
from services.projects.main import ROUTERS as PROJECTS
from tests.isolation import report
from tests.isolation.endpoints import Document, operations, unregistered

ROUTERS = {"identity": IDENTITY, "projects": PROJECTS, "indexing": INDEXING, "notifier": (notifier,)}


class _Item(BaseModel):
    owner_id: uuid.UUID


class _Body(BaseModel):
    items: list[_Item]


def product(more: APIRouter | None = None) -> Document:
    """The merged document of all services; `more` is one more router of the service that has projects."""
    apps = {name: FastAPI() for name in ROUTERS}
    for name, routers in ROUTERS.items():
        for router in (*routers, *((more,) if more and name == "projects" else ())):
            apps[name].include_router(router)
    return merge({name: app.openapi() for name, app in apps.items()}, public_url="https://quarry.test")


def test_every_endpoint_of_the_product_is_registered() -> None:
    assert unregistered(product()) == []
    assert len(operations(product())) > 40


def test_a_new_route_is_red_until_it_is_registered() -> None:
    router = APIRouter()

    @router.get("/v1/projects/{project_id}/notes/{note_id}")
    async def get_note(project_id: uuid.UUID, note_id: uuid.UUID) -> None: ...

    route, parameter = unregistered(product(router))
    assert route.startswith(
        "The route GET /v1/projects/{project_id}/notes/{note_id} is not registered: add it to ROUTES"
    )
    assert parameter.startswith("The parameter path:note_id of GET /v1/projects/{project_id}/notes/{note_id} is not")
    assert all("tests/isolation/endpoints.py" in sentence for sentence in (route, parameter))


def test_another_method_of_a_known_path_is_a_new_route() -> None:
    router = APIRouter()

    @router.put("/v1/projects/{project_id}")
    async def replace_project(project_id: uuid.UUID) -> None: ...

    assert [sentence.split(" is ")[0] for sentence in unregistered(product(router))] == [
        "The route PUT /v1/projects/{project_id}"
    ]


def test_a_new_parameter_is_red_wherever_it_is() -> None:
    router = APIRouter()

    @router.post("/v1/projects/{project_id}/notes")
    async def add_note(
        project_id: uuid.UUID, body: _Body, after: str, if_seen: Annotated[str, Header(alias="If-Seen")]
    ) -> None: ...

    named = [sentence.split(" of ")[0] for sentence in unregistered(product(router))[1:]]
    assert [name.removeprefix("The parameter ") for name in named] == [
        "query:after",
        "header:If-Seen",
        "body:_Body.items",
        "body:_Item.owner_id",
    ]


def test_a_route_that_went_is_red_until_its_entry_goes_too() -> None:
    document = product()
    fewer = {**document, "paths": {path: item for path, item in document["paths"].items() if path != "/v1/me"}}
    assert unregistered(fewer) == [
        "The route GET /v1/me is registered but not in the OpenAPI document: remove it from ROUTES in "
        "tests/isolation/endpoints.py."
    ]


def test_what_the_gateway_routes_nobody_to_is_no_door() -> None:
    router = APIRouter()

    @router.get("/internal/everything")
    async def everything() -> None: ...

    assert unregistered(product(router)) == []


def test_an_endpoint_nobody_tried_is_named_in_the_matrix() -> None:
    report.declare("store", ["a store nobody tries"])
    try:
        assert "a store nobody tries" in report.uncovered("store")
        report.count("store", "a store nobody tries", "somebody")
        assert "a store nobody tries" not in report.uncovered("store")
        assert any("a store nobody tries" in line and line.endswith("1") for line in report.lines())
    finally:
        report.forget("store", "a store nobody tries")
