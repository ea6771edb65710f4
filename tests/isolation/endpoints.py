"""Every way into the product, read from the merged OpenAPI document, and what is known of each.

A route is an operation, a parameter one of its inputs: in the path, the query, a header, or a field of the body. Both
are declared here by hand. What the document has and this module has not is a sentence of `unregistered`, and red: a
route nobody has thought about is tried by nobody.

`Route.who` and `Route.scope` restate the rules of the public API, not the code's: `tests.isolation.expectations`
derives from them what each attacker is to be told.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Document = Mapping[str, Any]
_METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")
_PATH_PARAMETER = re.compile(r"{(\w+)}")


class Who(StrEnum):
    """Who a route is for."""

    ANYONE = "anyone"
    CALLER = "caller"  # any credential; what it is told is about itself
    SIGNED_IN = "signed in"  # a browser session
    PROGRAM = "program"  # any credential but a browser's session; tools have tests of their own, in test_mcp.py
    MEMBERS = "members"  # who may know the members of the active tenant
    READER = "reader"  # any credential with the scope; is shown what it may see
    TENANT = "tenant"  # owner or admin of the active tenant, with the scope
    OWNER = "owner"  # owner of the active tenant
    EXPORT = "export"  # the scope in the project that was exported; for others there is no export
    PROJECT = "project"  # the scope in the project of the path, by role or as owner or admin of the tenant


class Carries(StrEnum):
    """What a parameter may lead to."""

    ID = "id"
    CURSOR = "cursor"
    EVENT_ID = "event id"
    ETAG = "ETag"
    SECRET = "secret"
    CONTENT = "content"  # recognises a document by what is in it
    ADDRESS = "address"  # recognises a person
    NOTHING = "nothing"  # neither leads anywhere nor recognises anything


@dataclass(frozen=True, slots=True)
class Route:
    """What is known of an operation. `json`, `content`, `params` and `headers` make a request that would be accepted
    from somebody who may; `free` are path parameters that take any id and look nothing up."""

    who: Who
    scope: str | None = None
    json: Mapping[str, Any] | None = None
    content: bytes | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: bool = False
    free: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the document. `parameters` are keys of `PARAMETERS`."""

    method: str
    path: str
    parameters: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the parameters in the path."""
        return tuple(_PATH_PARAMETER.findall(self.path))

    def that_carry(self, *what: Carries) -> list[str]:
        return [name for name in self.parameters if PARAMETERS[name] in what]

    def endpoint(self, parameter: str) -> str:
        return f"{self.key} {parameter}"


_P = "/v1/projects/{project_id}"
_D = _P + "/documents/{document_id}"
_R = _P + "/runs/{run_id}"
_U = _P + "/uploads/{upload_id}"
_TUS = {"Tus-Resumable": "1.0.0"}
_PIECE = {**_TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
_CREATION = {**_TUS, "Upload-Length": "7", "Upload-Metadata": "filename cGxhbnRlZC50eHQ="}
_E = "/v1/exports/{export_id}"
_NAME = {"name": "stolen"}

ROUTES: dict[str, Route] = {
    "GET /auth/callback/{provider}": Route(Who.ANYONE),
    "GET /auth/login/{provider}": Route(Who.ANYONE),
    "POST /auth/logout": Route(Who.ANYONE),
    "GET /auth/providers": Route(Who.ANYONE),
    "POST /mcp": Route(Who.PROGRAM, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
    "GET /v1/api-keys": Route(Who.TENANT, "keys:admin"),
    "POST /v1/api-keys": Route(Who.TENANT, "keys:admin", json={"name": "planted", "scopes": ["search"]}),
    "DELETE /v1/api-keys/{key_id}": Route(Who.TENANT, "keys:admin"),
    "GET /v1/events": Route(Who.READER, "events:read", stream=True),
    "GET /v1/exports": Route(Who.READER, "documents:read"),
    "POST /v1/exports": Route(Who.TENANT, "tenant:admin", json={"project_id": None}),
    f"GET {_E}": Route(Who.EXPORT, "projects:write"),
    f"GET {_E}/content": Route(Who.EXPORT, "projects:write"),
    f"DELETE {_E}": Route(Who.EXPORT, "projects:write"),
    "GET /v1/invitations": Route(Who.TENANT, "members:admin"),
    "POST /v1/invitations": Route(Who.TENANT, "members:admin", json={"email": "planted@example.test"}),
    "DELETE /v1/invitations/{invitation_id}": Route(Who.TENANT, "members:admin"),
    "POST /v1/invitations/{token}/accept": Route(Who.SIGNED_IN),
    "GET /v1/me": Route(Who.CALLER),
    "GET /v1/members": Route(Who.MEMBERS, "members:admin"),
    "PATCH /v1/members/{user_id}": Route(Who.TENANT, "members:admin", json={"role": "member"}),
    "DELETE /v1/members/{user_id}": Route(Who.TENANT, "members:admin"),
    "POST /v1/projects": Route(Who.TENANT, "projects:write", json=_NAME),
    "GET /v1/projects": Route(Who.READER, "projects:read"),
    f"GET {_P}": Route(Who.PROJECT, "projects:read"),
    f"PATCH {_P}": Route(Who.PROJECT, "projects:write", json=_NAME),
    f"DELETE {_P}": Route(Who.PROJECT, "projects:write"),
    f"POST {_P}/restore": Route(Who.PROJECT, "projects:write"),
    f"GET {_P}/members": Route(Who.PROJECT, "projects:read"),
    f"PUT {_P}/members/{{user_id}}": Route(
        Who.PROJECT, "members:admin", json={"role": "viewer"}, free=frozenset({"user_id"})
    ),
    f"DELETE {_P}/members/{{user_id}}": Route(Who.PROJECT, "members:admin"),
    f"POST {_P}/documents": Route(Who.PROJECT, "documents:write", content=b"planted", params={"name": "planted.txt"}),
    f"GET {_P}/documents": Route(Who.PROJECT, "documents:read"),
    f"GET {_D}": Route(Who.PROJECT, "documents:read"),
    f"PATCH {_D}": Route(Who.PROJECT, "documents:write", json=_NAME),
    f"DELETE {_D}": Route(Who.PROJECT, "documents:write"),
    f"POST {_D}/cancel": Route(Who.PROJECT, "documents:write"),
    f"POST {_D}/retry": Route(Who.PROJECT, "documents:write"),
    f"GET {_D}/content": Route(Who.PROJECT, "documents:read"),
    f"GET {_D}/versions": Route(Who.PROJECT, "documents:read"),
    f"POST {_D}/versions": Route(Who.PROJECT, "documents:write", content=b"planted"),
    f"POST {_D}/versions/{{version}}/restore": Route(Who.PROJECT, "documents:write"),
    f"POST {_P}/uploads": Route(Who.PROJECT, "documents:write", headers=_CREATION),
    f"GET {_U}": Route(Who.PROJECT, "documents:write", headers=_TUS),
    f"PATCH {_U}": Route(Who.PROJECT, "documents:write", content=b"planted", headers=_PIECE),
    f"DELETE {_U}": Route(Who.PROJECT, "documents:write", headers=_TUS),
    f"POST {_P}/documents/bulk": Route(
        Who.PROJECT, "documents:write", json={"action": "retry", "filter": {"status": ["failed"]}}
    ),
    f"GET {_P}/batches": Route(Who.PROJECT, "documents:read"),
    f"POST {_P}/batches": Route(Who.PROJECT, "documents:write", json={"name": "planted"}),
    f"GET {_P}/batches/{{batch_id}}": Route(Who.PROJECT, "documents:read"),
    f"GET {_P}/batches/{{batch_id}}/items": Route(Who.PROJECT, "documents:read"),
    f"POST {_P}/batches/{{batch_id}}/close": Route(Who.PROJECT, "documents:write"),
    f"POST {_P}/batches/{{batch_id}}/cancel": Route(Who.PROJECT, "documents:write"),
    f"POST {_D}/similar": Route(Who.PROJECT, "search", json={"limit": 5}),
    f"GET {_D}/chunks": Route(Who.PROJECT, "documents:read"),
    f"GET {_P}/jobs": Route(Who.PROJECT, "documents:read"),
    f"GET {_P}/progress": Route(Who.PROJECT, "documents:read"),
    f"GET {_P}/dead-letters": Route(Who.PROJECT, "documents:read"),
    f"POST {_P}/dead-letters/{{job_id}}/redrive": Route(Who.PROJECT, "documents:write"),
    f"POST {_P}/reindex": Route(Who.PROJECT, "projects:write"),
    f"GET {_P}/reindex": Route(Who.PROJECT, "documents:read"),
    f"POST {_P}/reindex/rollback": Route(Who.PROJECT, "projects:write"),
    f"GET {_P}/reindex/{{generation}}": Route(Who.PROJECT, "documents:read"),
    f"POST {_P}/reindex/{{generation}}/cancel": Route(Who.PROJECT, "projects:write"),
    f"POST {_P}/search": Route(Who.PROJECT, "search", json={"query": "canary"}),
    "GET /v1/agents": Route(Who.CALLER),
    "GET /v1/agents/{agent}": Route(Who.CALLER),
    f"POST {_P}/ask": Route(Who.PROJECT, "search", json={"question": "canary?", "stream": False}),
    f"POST {_P}/runs": Route(Who.PROJECT, "search", json={"agent": "answer", "input": {"question": "canary?"}}),
    f"GET {_P}/runs": Route(Who.PROJECT, "documents:read"),
    f"GET {_R}": Route(Who.PROJECT, "search"),
    f"DELETE {_R}": Route(Who.PROJECT, "search"),
    f"POST {_R}/cancel": Route(Who.PROJECT, "search"),
    f"GET {_R}/events": Route(Who.PROJECT, "search", stream=True),
    f"GET {_P}/events": Route(Who.PROJECT, "events:read", stream=True),
    "GET /v1/sessions": Route(Who.SIGNED_IN),
    "DELETE /v1/sessions/{session_id}": Route(Who.SIGNED_IN),
    "POST /v1/tenants": Route(Who.SIGNED_IN, json=_NAME),
    "GET /v1/tenants": Route(Who.CALLER),
    "GET /v1/tenants/{tenant_id}": Route(Who.CALLER),
    "PATCH /v1/tenants/{tenant_id}": Route(Who.TENANT, "tenant:admin", json=_NAME),
    "DELETE /v1/tenants/{tenant_id}": Route(Who.OWNER, "tenant:admin"),
    "POST /v1/tenants/{tenant_id}/activate": Route(Who.SIGNED_IN),
}

# By place and name, so that the same parameter is the same thing at every route; fields of bodies by their schema.
PARAMETERS: dict[str, Carries] = {
    **{f"path:{name}": Carries.ID for name in ("project_id", "document_id", "user_id", "key_id", "job_id")},
    **{f"path:{name}": Carries.ID for name in ("run_id", "upload_id", "export_id", "batch_id")},
    "path:agent": Carries.NOTHING,  # an agent of the installation, the same for everybody
    **{f"path:{name}": Carries.ID for name in ("invitation_id", "session_id", "tenant_id")},
    "path:token": Carries.SECRET,
    "path:provider": Carries.NOTHING,  # the installation's own list, open to everybody
    "path:generation": Carries.NOTHING,  # counts within the project of the path
    **{f"{place}:version": Carries.NOTHING for place in ("path", "query")},  # counts within the document of the path
    # Compared only with keys of the same project, of who may index it again.
    "header:Idempotency-Key": Carries.NOTHING,
    "query:cursor": Carries.CURSOR,
    "query:last_event_id": Carries.EVENT_ID,
    "query:sha256": Carries.CONTENT,
    "query:duplicates": Carries.CONTENT,
    **dict.fromkeys(("query:batch", "body:form.batch", "body:BulkFilter.batch_id"), Carries.ID),
    "body:BulkRequest.cursor": Carries.CURSOR,
    "body:BulkFilter.name": Carries.CONTENT,
    "body:BulkFilter.metadata": Carries.CONTENT,
    "body:BulkFilter.status": Carries.NOTHING,
    **{f"body:BulkRequest.{name}": Carries.NOTHING for name in ("action", "filter", "limit")},
    **{f"body:BatchCreate.{name}": Carries.NOTHING for name in ("name", "expected")},
    "query:name": Carries.CONTENT,
    # Of a sign-in, which tests/services/identity/test_sign_in.py and tests/flows/test_sign_in.py attack.
    **{f"query:{name}": Carries.NOTHING for name in ("state", "code", "error", "iss", "return_to")},
    **{f"query:{name}": Carries.NOTHING for name in ("limit", "status", "metadata")},
    # It says `duplicates`, and so asks what is there.
    "header:Upload-Metadata": Carries.CONTENT,
    # Of the protocol and of the bytes in this request.
    **{f"header:Upload-{name}": Carries.NOTHING for name in ("Length", "Defer-Length", "Offset", "Checksum")},
    "header:Tus-Resumable": Carries.NOTHING,
    "header:Last-Event-ID": Carries.EVENT_ID,
    "header:If-Match": Carries.ETAG,
    # Of the caller's own session; test_browsers.py of the gateway and test_sessions.py of identity attack it.
    "header:X-CSRF-Token": Carries.NOTHING,
    **{f"body:{name}.project_id": Carries.ID for name in ("ApiKeyCreate", "ExportCreate")},
    **{f"body:ApiKeyCreate.{name}": Carries.NOTHING for name in ("name", "scopes", "expires_at")},
    "body:InvitationCreate.email": Carries.ADDRESS,
    "body:InvitationCreate.role": Carries.NOTHING,
    "body:RoleChange.role": Carries.NOTHING,
    "body:MemberPut.role": Carries.NOTHING,
    "body:TenantInput.name": Carries.NOTHING,
    **{f"body:ProjectCreate.{name}": Carries.NOTHING for name in ("name", "description", "metadata")},
    **{f"body:ProjectPatch.{name}": Carries.NOTHING for name in ("name", "description", "metadata")},
    **{f"body:DocumentPatch.{name}": Carries.NOTHING for name in ("name", "metadata")},
    **{f"body:form.{name}": Carries.NOTHING for name in ("name", "metadata")},
    "body:form.file": Carries.CONTENT,
    "body:form.duplicates": Carries.CONTENT,
    # A message to the door for agents; test_mcp.py attacks with what tools take.
    **{f"body:form.{name}": Carries.NOTHING for name in ("jsonrpc", "id", "method", "params")},
    "body:SearchRequest.cursor": Carries.CURSOR,
    "body:SearchRequest.query": Carries.CONTENT,
    "body:SearchRequest.facets": Carries.CONTENT,
    **{f"body:SearchRequest.{name}": Carries.NOTHING for name in ("mode", "limit", "rerank", "highlight")},
    **{f"body:SimilarRequest.{name}": Carries.NOTHING for name in ("mode", "limit", "filter")},
    **{f"body:SearchRequest.{name}": Carries.NOTHING for name in ("group_by", "group_size", "explain", "timeout_ms")},
    "body:SearchRequest.read_after": Carries.ID,
    "body:UploadedVersion.document_id": Carries.ID,
    "body:UploadedVersion.version": Carries.NOTHING,
    "body:AskRequest.question": Carries.CONTENT,
    **{f"body:AskRequest.{name}": Carries.NOTHING for name in ("filter", "language", "budget", "on_disconnect")},
    "body:AskRequest.stream": Carries.NOTHING,
    # Its fields are those of the agent's contract, which the run's caller is held to as a searcher is.
    "body:RunRequest.input": Carries.CONTENT,
    **{f"body:RunRequest.{name}": Carries.NOTHING for name in ("agent", "budget", "on_disconnect", "stream")},
    **{f"body:BudgetIn.{name}": Carries.NOTHING for name in ("seconds", "model_calls", "model_tokens")},
    # A filter only puts its conditions together; what the conditions name is what counts.
    "body:SearchRequest.filter": Carries.NOTHING,
    **{f"body:{name}": Carries.NOTHING for name in ("AllOf.all", "AnyOf.any", "Not.not")},
    "body:DocumentCondition.field": Carries.NOTHING,
    **{f"body:DocumentCondition.{name}": Carries.ID for name in ("eq", "ne", "in")},
    **{
        f"body:{condition}.{name}": Carries.NOTHING
        for condition in (
            *("MetadataCondition", "NameCondition", "LanguageCondition"),
            *("ContentTypeCondition", "CreatedAtCondition"),
        )
        for name in ("field", "eq", "ne", "in", "gt", "gte", "lt", "lte", "exists", "prefix")
    },
}


def operations(document: Document) -> list[Operation]:
    """All operations of an OpenAPI document."""
    return [
        Operation(method.upper(), path, tuple(_parameters(document, {**item, **item[method]})))
        for path, item in document["paths"].items()
        for method in _METHODS
        if method in item
    ]


def unregistered(document: Document) -> list[str]:
    """What the document has and this module has not, and the other way round; each with what to do about it."""
    found = operations(document)
    keys = {operation.key for operation in found}
    return [
        *(
            f"The route {key} is not registered: add it to ROUTES in tests/isolation/endpoints.py with who may use it "
            "and a request that would be accepted from somebody who may."
            for key in sorted(keys - ROUTES.keys())
        ),
        *(
            f"The parameter {name} of {operation.key} is not registered: add it to PARAMETERS in "
            "tests/isolation/endpoints.py with what it carries; Carries.NOTHING only with the reason beside it."
            for operation in found
            for name in operation.parameters
            if name not in PARAMETERS
        ),
        *(
            f"The route {key} is registered but not in the OpenAPI document: remove it from ROUTES in "
            "tests/isolation/endpoints.py."
            for key in sorted(ROUTES.keys() - keys)
        ),
    ]


def _parameters(document: Document, operation: Document) -> Iterator[str]:
    for parameter in operation.get("parameters", ()):
        resolved = _resolved(document, parameter)
        yield f"{resolved['in']}:{resolved['name']}"
    fields: dict[str, None] = {}
    for content in _resolved(document, operation.get("requestBody", {})).get("content", {}).values():
        _collect_fields(document, content.get("schema", {}), "form", fields, set())
    yield from fields


def _collect_fields(document: Document, schema: Any, owner: str, fields: dict[str, None], seen: set[str]) -> None:
    """Every property reachable from a body's schema, as `body:<schema>.<property>`."""
    if isinstance(schema, list):
        for item in schema:
            _collect_fields(document, item, owner, fields, seen)
        return
    if not isinstance(schema, Mapping):
        return
    if reference := schema.get("$ref"):
        if reference not in seen:
            seen.add(reference)
            _collect_fields(document, _resolved(document, schema), reference.rpartition("/")[2], fields, seen)
        return
    for name, below in schema.get("properties", {}).items():
        fields[f"body:{owner}.{name}"] = None
        _collect_fields(document, below, f"{owner}.{name}", fields, seen)
    for key in ("anyOf", "oneOf", "allOf", "items", "additionalProperties", "prefixItems"):
        _collect_fields(document, schema.get(key), owner, fields, seen)


def _resolved(document: Document, item: Document) -> Document:
    """`item`, or what it refers to within the document."""
    if "$ref" not in item:
        return item
    found: Any = document
    for part in item["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    resolved: Document = found
    return resolved
