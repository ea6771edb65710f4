"""Every route of the service, for those who may not use it."""

import uuid
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from services.projects.main import ROUTERS
from shared.auth import PrincipalKind
from tests.services.projects.callers import Caller, code
from tests.services.projects.uploads.pieces import begun
from tests.support.identity import IdentityDouble
from tests.support.resumable import PIECE, TUS, metadata
from tests.support.serving import StartedApp

PROJECT = "/v1/projects/{project_id}"
DOCUMENT = PROJECT + "/documents/{document_id}"
JSON: dict[str, Any] = {"json": {"name": "x"}}
MATCH: dict[str, Any] = {"headers": {"If-Match": "*"}}
UPLOAD = PROJECT + "/uploads/{upload_id}"
CREATION: dict[str, Any] = {"headers": {**TUS, "Upload-Length": "9", "Upload-Metadata": metadata(filename="a.txt")}}
APPENDING: dict[str, Any] = {"content": b"text", "headers": {**PIECE, "Upload-Offset": "0"}}
RAW: dict[str, Any] = {"content": b"text", "params": {"name": "a.txt"}}

# Every route that names a project or a document, and a request that would succeed for its owner.
ROUTES: dict[tuple[str, str], dict[str, Any]] = {
    ("GET", PROJECT): {},
    ("PATCH", PROJECT): {**JSON, **MATCH},
    ("DELETE", PROJECT): MATCH,
    ("POST", PROJECT + "/restore"): {},
    ("GET", PROJECT + "/members"): {},
    ("PUT", PROJECT + "/members/{user_id}"): {"json": {"role": "owner"}},
    ("DELETE", PROJECT + "/members/{user_id}"): {},
    ("POST", PROJECT + "/documents"): RAW,
    ("GET", PROJECT + "/documents"): {},
    ("GET", DOCUMENT): {},
    ("PATCH", DOCUMENT): JSON,
    ("DELETE", DOCUMENT): {},
    ("POST", DOCUMENT + "/cancel"): {},
    ("POST", DOCUMENT + "/retry"): {},
    ("GET", DOCUMENT + "/content"): {},
    ("HEAD", DOCUMENT + "/content"): {},
    ("GET", DOCUMENT + "/versions"): {},
    ("POST", DOCUMENT + "/versions"): {"content": b"newer"},
    ("POST", DOCUMENT + "/versions/{version}/restore"): {},
    ("POST", PROJECT + "/uploads"): CREATION,
    ("GET", UPLOAD): {},
    ("HEAD", UPLOAD): {"headers": TUS},
    ("PATCH", UPLOAD): APPENDING,
    ("DELETE", UPLOAD): {"headers": TUS},
    ("POST", PROJECT + "/documents/bulk"): {"json": {"action": "delete", "filter": {"name": "x"}}},
    ("GET", PROJECT + "/batches"): {},
    ("POST", PROJECT + "/batches"): {"json": {}},
    ("GET", PROJECT + "/batches/{batch_id}"): {},
    ("GET", PROJECT + "/batches/{batch_id}/items"): {},
    ("POST", PROJECT + "/batches/{batch_id}/close"): {},
    ("POST", PROJECT + "/batches/{batch_id}/cancel"): {},
}
INTERNAL: dict[tuple[str, str], dict[str, Any]] = {
    ("GET", "/internal/projects/{project_id}/access"): {},
    ("GET", "/internal/projects/{project_id}/documents/{document_id}/versions/{version}/content"): {},
}
LISTS: dict[tuple[str, str], dict[str, Any]] = {
    ("GET", "/v1/projects"): {},
    ("POST", "/v1/projects"): JSON,
    ("GET", "/v1/exports"): {},
    ("POST", "/v1/exports"): {"json": {}},
}
# Who may use them is tried in exports/test_exports.py.
EXPORTS: dict[tuple[str, str], dict[str, Any]] = {
    ("GET", "/v1/exports/{export_id}"): {},
    ("GET", "/v1/exports/{export_id}/content"): {},
    ("DELETE", "/v1/exports/{export_id}"): {},
}
WRITES = [route for route in ROUTES if route[0] not in ("GET", "HEAD")]


@pytest.fixture
async def path_values(admin: Caller, project_id: uuid.UUID) -> dict[str, Any]:
    document = await admin.uploaded(project_id)
    path = f"/v1/projects/{project_id}/documents/{document['id']}/versions"
    assert (await admin("POST", path, content=b"newer")).status_code == 201
    upload = (await begun(admin, project_id, 9)).rpartition("/")[2]
    batch = (await admin("POST", f"/v1/projects/{project_id}/batches", json={})).json()
    ids = {"project_id": project_id, "document_id": document["id"], "user_id": admin.user_id, "upload_id": upload}
    return {**ids, "version": 1, "export_id": uuid.uuid4(), "batch_id": batch["id"]}


def test_every_route_is_tried_here() -> None:
    declared = {
        (method, route.path)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    # HEAD is answered wherever GET is, by `shared.http_semantics`.
    assert declared == {route for route in (*ROUTES, *INTERNAL, *LISTS, *EXPORTS) if route[0] != "HEAD"}


@pytest.mark.parametrize("route", [*ROUTES, *INTERNAL, *LISTS, *EXPORTS])
async def test_nobody_gets_in_without_a_token_for_this_service(
    client: httpx.AsyncClient,
    tokens: IdentityDouble,
    tenant_id: uuid.UUID,
    path_values: dict[str, Any],
    route: tuple[str, str],
) -> None:
    method, template = route
    options = {**ROUTES, **INTERNAL, **LISTS, **EXPORTS}[route]
    path = template.format(**path_values)
    foreign = tokens.bearer("indexing", tenant_id=tenant_id)
    expired = tokens.bearer("projects", tenant_id=tenant_id, exp=1)
    for headers in ({}, {"Authorization": f"Bearer {foreign}"}, {"Authorization": f"Bearer {expired}"}):
        merged = {**options.get("headers", {}), **headers}
        answer = await client.request(method, path, **{**options, "headers": merged})
        assert answer.status_code == 401
        assert method == "HEAD" or code(answer) == (401, "unauthenticated")


@pytest.mark.parametrize("route", ROUTES)
async def test_another_tenant_and_a_stranger_get_the_answer_for_what_does_not_exist(
    admin: Caller, outsider: Caller, path_values: dict[str, Any], route: tuple[str, str]
) -> None:
    method, template = route
    path = template.format(**path_values)
    invented = template.format(**{**{name: uuid.uuid4() for name in path_values}, "version": 1})
    stranger = await admin.member(path_values["project_id"], None)
    answers = [
        await outsider(method, path, **ROUTES[route]),
        await stranger(method, path, **ROUTES[route]),
        await admin(method, invented, **ROUTES[route]),
    ]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    if method != "HEAD":
        bodies = [answer.json() for answer in answers]
        assert len({(body["type"], body["title"], body["detail"], body["code"]) for body in bodies}) == 1
    assert (await admin("GET", DOCUMENT.format(**path_values))).status_code == 200


@pytest.mark.parametrize("route", WRITES)
async def test_a_viewer_changes_nothing(admin: Caller, path_values: dict[str, Any], route: tuple[str, str]) -> None:
    method, template = route
    viewer = await admin.member(path_values["project_id"], "viewer")
    answer = await viewer(method, template.format(**path_values), **ROUTES[route])
    assert code(answer) == (403, "forbidden")


async def test_a_document_is_found_only_in_its_own_project(
    admin: Caller, neighbour: Caller, path_values: dict[str, Any]
) -> None:
    elsewhere = {**path_values, "project_id": await admin.create_project(name="Other")}
    for (method, template), options in ROUTES.items():
        if template.startswith(DOCUMENT):
            assert (await admin(method, template.format(**elsewhere), **options)).status_code == 404
    content = "/internal/projects/{project_id}/documents/{document_id}/versions/1/content"
    assert code(await neighbour("GET", content.format(**elsewhere))) == (404, "not_found")


@pytest.mark.parametrize("route", INTERNAL)
async def test_internal_routes_are_closed_to_clients_and_empty_for_other_tenants_services(
    admin: Caller, outsider: Caller, path_values: dict[str, Any], route: tuple[str, str]
) -> None:
    path = route[1].format(**path_values)
    foreign_service = outsider.limited(kind=PrincipalKind.SERVICE, tenant_role="admin")
    assert code(await foreign_service("GET", path)) == (404, "not_found")
    for caller in (admin, outsider):
        assert code(await caller("GET", path)) == (403, "forbidden")


def test_the_interface_is_described_in_full(running: tuple[StartedApp, httpx.AsyncClient]) -> None:
    document = running[0].app.openapi()
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == {route for route in {**ROUTES, **LISTS, **EXPORTS} if route[0] != "HEAD"}
    upload = document["paths"][PROJECT + "/documents"]["post"]["requestBody"]["content"]
    assert set(upload) == {"multipart/form-data", "*/*"}
