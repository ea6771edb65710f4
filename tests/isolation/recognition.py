"""What recognises a thing without naming its id: content, words, addresses, secrets. None may tell that it exists."""

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from services.indexing.search import cursors
from shared.pagination import encode_cursor
from tests.isolation import report
from tests.isolation.attackers import Attacker
from tests.isolation.canaries import canary, found_in, whole_text
from tests.isolation.matrix import code_of
from tests.support.resumable import begin_upload

# A client that shows a credential of a kind.
Connect = Callable[[str, str], httpx.AsyncClient]

_DOCUMENTS = "/v1/projects/{project_id}/documents"
_SEARCH = "POST /v1/projects/{project_id}/search"
_SIMILAR = "POST /v1/projects/{project_id}/documents/{document_id}/similar"
_ASK = "POST /v1/projects/{project_id}/ask"
_RUNS = "POST /v1/projects/{project_id}/runs"


async def content(victims_content: bytes, attacker: Attacker, own_project: str) -> None:
    """The victim's very bytes, uploaded and asked for in the attacker's own project: nobody has them there."""
    path = _DOCUMENTS.format(project_id=own_project)
    sha256 = hashlib.sha256(victims_content).hexdigest()
    for params in ({"sha256": sha256}, {"name": f"{canary('document')}.txt"}):
        listed = await attacker.client.get(path, params=params)
        assert (listed.status_code, listed.json()["items"]) == (200, []), listed.text
    for duplicates in ("reject", "link", "new_version"):
        whole: dict[str, Any] = {"params": {"name": "mine.txt", "duplicates": duplicates}, "content": victims_content}
        form: dict[str, Any] = {"files": {"file": ("mine.txt", victims_content)}, "data": {"duplicates": duplicates}}
        for made in (whole, form):
            answer = await attacker.client.post(path, **made)
            assert (answer.status_code, answer.json()["duplicate_of"]) == (201, None), answer.text
            own = f"{path}/{answer.json()['id']}"
            newer = await attacker.client.post(f"{own}/versions", **{**made, "params": {}})
            assert (newer.status_code, newer.json()["version"], newer.json()["duplicate_of"]) == (201, 2, None), (
                newer.text
            )
            gone = await attacker.client.delete(own)
            assert gone.status_code == 204, gone.text
        pieces = {"duplicates": duplicates, "metadata": "{}"}
        upload = await begin_upload(
            attacker.client, own_project, "mine.txt", len(victims_content), victims_content, **pieces
        )
        became = (await attacker.client.get(upload)).json()["document_id"]
        assert became == upload.rpartition("/")[2]
        assert (await attacker.client.get(f"{path}/{became}")).json()["duplicate_of"] is None
        assert (await attacker.client.delete(f"{path}/{became}")).status_code == 204
    for name in ("query:sha256", "query:name"):
        report.count("parameter", f"GET {_DOCUMENTS} {name}", attacker.name)
    for name in ("query:duplicates", "query:name", "body:form.file", "body:form.duplicates"):
        report.count("parameter", f"POST {_DOCUMENTS} {name}", attacker.name, 2)
    report.count("parameter", "POST /v1/projects/{project_id}/uploads header:Upload-Metadata", attacker.name, 3)
    report.count("parameter", f"POST {_DOCUMENTS}/{{document_id}}/versions body:form.file", attacker.name, 2)


async def agents(ids: Mapping[str, str], attacker: Attacker, own_project: str) -> None:
    """Questions in the victim's words, and filters that name its documents, asked of the attacker's own project."""
    document = ids["document_id"]
    theirs = {"field": "document_id", "eq": document, "in": [document], "ne": str(uuid.uuid4())}
    inputs: list[dict[str, Any]] = [
        *({"question": f"Who sings of {canary(kind)}?"} for kind in ("content", "document")),
        {"question": "Who sings?", "filter": {"any": [theirs, {"not": theirs}]}},
    ]
    for given in inputs:
        bodies: tuple[tuple[str, dict[str, Any]], ...] = (
            ("ask", {**given, "stream": False}),
            ("runs", {"agent": "answer", "input": given}),
        )
        for path, body in bodies:
            answer = await attacker.client.post(f"/v1/projects/{own_project}/{path}", json=body)
            assert answer.status_code in (200, 201), answer.text
            run = await attacker.client.get(f"/v1/projects/{own_project}/runs/{answer.json()['id']}")
            assert found_in(str({**run.json(), "input": None})) == set(), run.text
            cited = (run.json()["output"] or {}).get("citations", [])
            assert ids["document_id"] not in [citation["document_id"] for citation in cited], run.text
    of_a_filter = [f"{_ASK} body:DocumentCondition.{name}" for name in ("eq", "ne", "in")]
    for parameter in (f"{_ASK} body:AskRequest.question", f"{_RUNS} body:RunRequest.input", *of_a_filter):
        report.count("parameter", parameter, attacker.name, len(inputs))


async def search(ids: Mapping[str, str], attacker: Attacker, own_project: str, own_document: str) -> None:
    """Filters, facets, words and cursors of the victim's, in the attacker's own project."""
    path = f"/v1/projects/{own_project}/search"
    theirs = ids["document_id"]
    listed = await attacker.client.get(f"/v1/projects/{own_project}/documents", params={"limit": 200})
    own = {item["id"] for item in listed.json()["items"]}
    assert own_document in own
    everything = {"field": "document_id", "ne": str(uuid.uuid4())}
    shown: dict[str, list[dict[str, Any]]] = {
        "body:DocumentCondition.eq": [
            {"filter": {"field": "document_id", "eq": theirs}},
            {"filter": {"any": [{"field": "document_id", "eq": theirs}, everything]}},
            {"filter": {"not": {"field": "document_id", "eq": theirs}}},
        ],
        "body:DocumentCondition.ne": [{"filter": {"field": "document_id", "ne": own_document}}],
        "body:DocumentCondition.in": [{"filter": {"field": "document_id", "in": [theirs, own_document]}}],
        "body:SearchRequest.query": [{"query": f"{canary(kind)} sings"} for kind in ("content", "document")],
        "body:SearchRequest.facets": [{"facets": ["metadata.note", "content_type"]}],
    }
    for parameter, bodies in shown.items():
        for body in bodies:
            for mode in ("hybrid", "semantic", "keyword"):
                answer = await attacker.client.post(path, json={"query": "canary sings", "mode": mode, **body})
                assert answer.status_code == 200, answer.text
                assert {item["document_id"] for item in answer.json()["items"]} <= own - {theirs}, answer.text
                assert found_in(whole_text(answer)) == set(), answer.text
        report.count("parameter", f"{_SEARCH} {parameter}", attacker.name, 3 * len(bodies))
    made_for = cursors.fingerprint(ids["project_id"], "canary sings", "hybrid", None)
    for cursor in (cursors.encode([1], made_for), cursors.encode([1], b""), "W10", "x", "A" * 512):
        answer = await attacker.client.post(path, json={"query": "canary sings", "cursor": cursor})
        assert (answer.status_code, code_of(answer)) == (400, "invalid_cursor"), answer.text
    report.count("parameter", f"{_SEARCH} body:SearchRequest.cursor", attacker.name, 5)
    await _uploads(path, theirs, attacker)


async def _uploads(path: str, theirs: str, attacker: Attacker) -> None:
    """A search waits for the victim's upload as for one that there is not, and is told the same."""
    named: list[Any] = [theirs, str(uuid.uuid4()), *({"document_id": theirs, "version": number} for number in (1, 2))]
    body = {"query": "canary sings", "mode": "keyword", "timeout_ms": 3_000}
    answers = await asyncio.gather(
        *(attacker.client.post(path, json={**body, "read_after": upload}) for upload in named)
    )
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert answer.json()["partial_reasons"] == ["upload_awaited"]
        assert found_in(whole_text(answer)) == set(), answer.text
    for parameter in ("SearchRequest.read_after", "UploadedVersion.document_id"):
        report.count("parameter", f"{_SEARCH} body:{parameter}", attacker.name, 2)


async def similar(ids: Mapping[str, str], attacker: Attacker, own_project: str, own_document: str) -> None:
    """Filters that name the victim's documents, for a document of the attacker's own."""
    path = f"/v1/projects/{own_project}/documents/{own_document}/similar"
    theirs = ids["document_id"]
    for operator, value in (("eq", theirs), ("ne", own_document), ("in", [theirs, own_document])):
        condition = {"field": "document_id", operator: value}
        for filter_ in (condition, {"any": [condition, {"not": condition}]}):
            for mode in ("hybrid", "semantic", "keyword"):
                answer = await attacker.client.post(path, json={"mode": mode, "filter": filter_, "limit": 50})
                assert answer.status_code == 200, answer.text
                assert not {theirs, own_document} & {item["document_id"] for item in answer.json()["items"]}
                assert found_in(whole_text(answer)) == set(), answer.text
        report.count("parameter", f"{_SIMILAR} body:DocumentCondition.{operator}", attacker.name, 6)


async def addresses(attacker: Attacker, known: str) -> None:
    """Inviting somebody who has an account is answered as inviting nobody."""
    told = []
    for email in (known, f"{uuid.uuid4().hex}@example.test"):
        answer = await attacker.client.post("/v1/invitations", json={"email": email, "role": "member"})
        assert answer.status_code == 201, answer.text
        told.append({**answer.json(), **dict.fromkeys(("id", "email", "token", "created_at", "expires_at"))})
    assert told[0] == told[1]
    report.count("parameter", "POST /v1/invitations body:InvitationCreate.email", attacker.name)


async def keys_for_foreign_projects(ids: Mapping[str, str], attacker: Attacker) -> None:
    """A key is for a project of its own tenant, and who asks for another is told nothing of whether there is such."""
    told = []
    for project in (ids["project_id"], str(uuid.uuid4())):
        body = {"name": "tied", "scopes": ["projects:read", "search"], "project_id": project}
        made = await attacker.client.post("/v1/api-keys", json=body)
        assert (made.status_code, made.json()["code"]) == (422, "project_unknown"), made.text
        told.append({**made.json(), "request_id": None})
    assert told[0] == told[1]
    report.count("parameter", "POST /v1/api-keys body:ApiKeyCreate.project_id", attacker.name)


async def batches(ids: Mapping[str, str], attacker: Attacker, own_project: str) -> None:
    """The victim's batch, and what its documents are called, in the attacker's own project: nothing is found."""
    path, told = _DOCUMENTS.format(project_id=own_project), []
    for batch in (ids["batch_id"], str(uuid.uuid4())):
        whole: dict[str, Any] = {"params": {"name": "mine.txt", "batch": batch}, "content": b"mine"}
        form: dict[str, Any] = {"files": {"file": ("mine.txt", b"mine")}, "data": {"batch": batch}}
        for made in (whole, form):
            answer = await attacker.client.post(path, **made)
            assert (answer.status_code, code_of(answer)) == (404, "not_found"), answer.text
            told.append({**answer.json(), "request_id": None})
    assert told[:2] == told[2:]
    note = {"note": canary("document")}
    for wanted in ({"batch_id": ids["batch_id"]}, {"name": f"{canary('document')}.txt"}, {"metadata": note}):
        answer = await attacker.client.post(f"{path}/bulk", json={"action": "delete", "filter": wanted})
        assert (answer.status_code, answer.json()["affected"]) == (200, 0), answer.text
    for parameter in ("query:batch", "body:form.batch"):
        report.count("parameter", f"POST {_DOCUMENTS} {parameter}", attacker.name, 2)
    for parameter in ("batch_id", "name", "metadata"):
        report.count("parameter", f"POST {_DOCUMENTS}/bulk body:BulkFilter.{parameter}", attacker.name)
    position = encode_cursor(datetime.now(UTC), uuid.UUID(ids["document_id"]))
    body = {"action": "retry", "filter": {"metadata": note}, "cursor": position}
    assert (await attacker.client.post(f"{path}/bulk", json=body)).json()["affected"] == 0
    report.count("parameter", f"POST {_DOCUMENTS}/bulk body:BulkRequest.cursor", attacker.name)


async def exports_of_foreign_projects(ids: Mapping[str, str], attacker: Attacker) -> None:
    """Who asks for an export of a foreign project is told nothing of whether there is such."""
    told = []
    for project in (ids["project_id"], str(uuid.uuid4())):
        answer = await attacker.client.post("/v1/exports", json={"project_id": project})
        assert (answer.status_code, code_of(answer)) == (404, "not_found"), answer.text
        told.append({**answer.json(), "request_id": None})
    assert told[0] == told[1]
    report.count("parameter", "POST /v1/exports body:ExportCreate.project_id", attacker.name)


async def foreign_members(ids: Mapping[str, str], attacker: Attacker, own_project: str) -> None:
    """Only members of the tenant are given a role, and nothing is told of who else is a user."""
    told = []
    for user_id in (ids["user_id"], str(uuid.uuid4())):
        path = f"/v1/projects/{own_project}/members/{user_id}"
        answer = await attacker.client.put(path, json={"role": "viewer"})
        assert (answer.status_code, code_of(answer)) == (422, "not_a_tenant_member")
        gone = await attacker.client.delete(path)
        assert (gone.status_code, code_of(gone)) == (404, "not_found")
        told.append({**answer.json(), **dict.fromkeys(("instance", "request_id"))})
    assert told[0] == told[1]
    for method in ("PUT", "DELETE"):
        endpoint = f"{method} /v1/projects/{{project_id}}/members/{{user_id}} path:user_id"
        report.count("parameter", endpoint, "user id of another tenant")


async def secrets_one_character_off(secrets: Mapping[str, str], connect: Connect) -> None:
    """A credential is right or wrong; nearly right is wrong."""
    for kind, secret in secrets.items():
        for position in (len(secret) // 2, -1):
            changed = list(secret)
            changed[position] = "A" if changed[position] != "A" else "B"
            async with connect(kind, "".join(changed)) as client:
                answer: httpx.Response = await client.get("/v1/me")
            assert (answer.status_code, code_of(answer)) == (401, "unauthenticated"), kind
            report.count("route", "GET /v1/me", "credential, one character off")
