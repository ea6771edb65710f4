"""One document for the product, and a page of it."""

import json
import tomllib
from typing import Any

import pytest

from infra.local.home import ROOT
from services.gateway.openapi import document
from services.gateway.openapi.merge import VERSION, merge
from services.gateway.openapi.page import render
from tests.services.gateway.conftest import Gateway, StartGateway
from tests.services.gateway.doubles import Services


def _operation(schema: str = "Item", **more: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"operationId": "op", "responses": {"200": {"description": "ok", "content": content}}, **more}


def _document(paths: dict[str, Any], **schemas: Any) -> dict[str, Any]:
    return {"openapi": "3.1.0", "info": {}, "paths": paths, "components": {"schemas": schemas}}


_OBJECT = {"type": "object"}
_TEXT = {"type": "string"}


def test_only_routed_paths_are_public() -> None:
    merged = merge(
        {
            "projects": _document(
                {
                    "/v1/projects": {"get": _operation()},
                    "/internal/projects/{id}/access": {"get": _operation("Secret")},
                    "/v1/webhooks": {"get": _operation()},  # the notifier's: never reaches this service
                },
                Item=_OBJECT,
                Secret=_OBJECT,
            )
        },
        public_url="http://quarry.test",
    )
    assert list(merged["paths"]) == ["/v1/projects"]
    assert "Secret" not in merged["components"]["schemas"]
    assert merged["servers"] == [{"url": "http://quarry.test"}]


def test_components_of_one_name_are_kept_apart_and_equal_ones_shared() -> None:
    page = {"properties": {"items": {"$ref": "#/components/schemas/Item"}}}
    merged = merge(
        {
            "projects": _document({"/v1/projects": {"get": _operation("Page")}}, Page=page, Item=_OBJECT, Shared=_TEXT),
            "notifier": _document(
                {"/v1/webhooks": {"get": _operation("Page"), "post": _operation("Shared")}},
                Page=page,
                Item=_TEXT,
                Shared=_TEXT,
            ),
        },
        public_url="http://quarry.test",
    )
    schemas = merged["components"]["schemas"]
    # Page looks the same in both, but what it is made of is not.
    assert schemas["Page"]["properties"]["items"]["$ref"].endswith("/Item")
    assert schemas["NotifierPage"]["properties"]["items"]["$ref"].endswith("/NotifierItem")
    assert (schemas["Item"], schemas["NotifierItem"], schemas["Shared"]) == (_OBJECT, _TEXT, _TEXT)
    assert "NotifierShared" not in schemas
    used = merged["paths"]["/v1/webhooks"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert used == {"$ref": "#/components/schemas/NotifierPage"}


def test_operations_say_which_credential_they_need_and_how_they_fail() -> None:
    validation = {"422": {"content": {"x": {"schema": {"$ref": "#/components/schemas/HTTPValidationError"}}}}}
    post = _operation()
    post["responses"] |= validation
    merged = merge(
        {
            "projects": _document(
                {"/v1/projects": {"get": _operation(), "post": post, "parameters": []}},
                Item=_OBJECT,
                HTTPValidationError=_OBJECT,
            ),
            "identity": {
                **_document({"/auth/providers": {"get": _operation()}}, Item=_OBJECT),
                "tags": [{"name": "b"}, {"name": "a"}],
            },
        },
        public_url="http://quarry.test",
    )
    projects = merged["paths"]["/v1/projects"]
    assert projects["get"]["security"] == [{"bearer": []}, {"session": []}]
    assert projects["post"]["security"] == [{"bearer": []}, {"session": [], "csrf": []}]
    assert merged["paths"]["/auth/providers"]["get"]["security"] == []
    assert "401" not in merged["paths"]["/auth/providers"]["get"]["responses"]
    problem = {"$ref": "#/components/responses/Problem"}
    assert {projects["post"]["responses"][status]["$ref"] for status in ("401", "422", "429", "503", "default")} == {
        problem["$ref"]
    }
    assert "HTTPValidationError" not in merged["components"]["schemas"]
    assert set(merged["components"]["schemas"]["Problem"]["properties"]) >= {"code", "request_id", "status"}
    assert set(merged["components"]["securitySchemes"]) == {"bearer", "session", "csrf"}
    assert merged["tags"] == [{"name": "a"}, {"name": "b"}]
    assert projects["get"]["operationId"] == "projects_op"


def test_the_version_is_the_products() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


async def test_the_document_and_the_page_need_no_credential(gateway: Gateway, services: Services) -> None:
    operation = _operation(
        summary="List <projects>",
        parameters=[{"name": "limit", "in": "query", "schema": {"type": "integer"}}],
        requestBody={"content": {"application/json": {"schema": _OBJECT}}},
    )
    services.projects.document = _document({"/v1/projects": {"get": operation}}, Item=_OBJECT)
    async with gateway.client.get("/openapi.json") as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        document = await answer.json()
    assert list(document["paths"]) == ["/v1/projects"]
    async with gateway.client.get("/docs") as answer:
        assert answer.status == 200
        page = await answer.text()
        policy = answer.headers.getall("Content-Security-Policy")
    assert "/v1/projects" in page
    assert "List &lt;projects&gt;" in page
    assert "limit" in page
    assert "http://" not in page.replace("http://quarry.test", "")
    assert "https://" not in page
    assert "<script" not in page
    assert len(policy) == 1
    assert "style-src 'sha256-" in policy[0]


async def test_a_service_that_goes_away_leaves_its_part_of_the_document(
    start_gateway: StartGateway, services: Services, monkeypatch: Any
) -> None:
    monkeypatch.setattr(document, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(document, "RETRY_SECONDS", 0.0)
    gateway = await start_gateway()
    services.projects.document = _document({"/v1/projects": {"get": _operation()}}, Item=_OBJECT)
    async with gateway.client.get("/openapi.json") as answer:
        before = await answer.json()
    gateway.resources.upstreams["projects"].url = "http://127.0.0.1:1"
    services.notifier.document = _document({"/v1/webhooks": {"get": _operation()}}, Item=_OBJECT)
    async with gateway.client.get("/openapi.json") as answer:
        after = await answer.json()
    assert list(before["paths"]) == ["/v1/projects"]
    assert list(after["paths"]) == ["/v1/projects", "/v1/webhooks"]


async def test_half_a_document_is_not_given_out_nor_fetched_for_each_who_asks(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(document, "RETRY_SECONDS", 60.0)
    gateway = await start_gateway(indexing_url="http://127.0.0.1:1")
    for path in ("/openapi.json", "/docs"):
        async with gateway.client.get(path) as answer:
            assert answer.status == 503
            assert "indexing" in (await answer.json())["detail"]
    assert caplog.text.count("openapi_not_fetched") == 1


async def test_the_document_is_fetched_once_and_kept(gateway: Gateway, services: Services) -> None:
    for _ in range(2):
        async with gateway.client.get("/openapi.json") as answer:
            assert (await answer.json())["paths"] == {}
        services.projects.document = _document({"/v1/projects": {"get": _operation()}}, Item=_OBJECT)


def test_the_page_shows_what_is_there() -> None:
    merged = merge({"projects": _document({"/v1/projects": {"get": {"responses": {}}}})}, public_url="http://x.test")
    page = render(json.loads(json.dumps(merged))).decode()
    assert "GET" in page
    assert "Problem" in page
