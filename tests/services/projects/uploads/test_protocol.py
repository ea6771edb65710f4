"""Resumable uploads as their clients see them: tus 1.0.0."""

import hashlib
import uuid
from email.utils import parsedate_to_datetime

import httpx
import pytest

from shared.tenancy import Database
from tests.services.projects.callers import Caller, announced, code
from tests.services.projects.uploads.pieces import add, begin, begun, checksum, offset_of
from tests.support.resumable import TUS, metadata
from tests.support.serving import StartedApp

CONTENT = b"first half, second half"


async def test_an_upload_in_pieces_becomes_a_document(admin: Caller, project_id: uuid.UUID, database: Database) -> None:
    path = await begun(
        admin, project_id, len(CONTENT), filename="no.txt", name="yes.md", filetype="text/markdown", metadata='{"a": 1}'
    )
    assert path.startswith(f"/v1/projects/{project_id}/uploads/")
    first = await add(admin, path, 0, CONTENT[:10])
    assert (first.status_code, first.headers["upload-offset"]) == (204, "10")
    assert "quarry-document-id" not in first.headers
    assert len(await announced(database, admin.tenant_id or uuid.uuid4())) == 1
    last = await add(admin, path, 10, CONTENT[10:])
    assert (last.status_code, last.headers["upload-offset"]) == (204, str(len(CONTENT)))
    document = (await admin("GET", f"/v1/projects/{project_id}/documents/{last.headers['quarry-document-id']}")).json()
    assert document["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert [document[key] for key in ("name", "content_type", "metadata", "size", "status")] == [
        *("yes.md", "text/markdown", {"a": 1}, len(CONTENT), "queued"),
    ]
    content = await admin("GET", f"/v1/projects/{project_id}/documents/{document['id']}/content")
    assert content.content == CONTENT
    shown = (await admin("GET", path)).json()
    assert (shown["offset"], shown["length"], shown["document_id"]) == (len(CONTENT), len(CONTENT), document["id"])


async def test_head_tells_where_to_go_on(admin: Caller, project_id: uuid.UUID) -> None:
    path = await begun(admin, project_id, 10, note="mine")
    await add(admin, path, 0, b"1234")
    answer = await admin("HEAD", path, headers=TUS)
    assert answer.status_code == 200
    assert answer.content == b""
    told = {name: answer.headers[name] for name in ("upload-offset", "upload-length", "cache-control", "tus-resumable")}
    assert told == {
        "upload-offset": "4",
        "upload-length": "10",
        "cache-control": "no-store",
        "tus-resumable": "1.0.0",
    }
    assert answer.headers["upload-metadata"] == metadata(filename="a.txt", note="mine")
    assert parsedate_to_datetime(answer.headers["upload-expires"]).tzinfo is not None


async def test_options_tell_what_there_is(admin: Caller, project_id: uuid.UUID) -> None:
    answer = await admin("OPTIONS", f"/v1/projects/{project_id}/uploads")
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert answer.headers["tus-max-size"] == str(4 * 1024 * 1024)
    assert answer.headers["tus-checksum-algorithm"] == "sha1,sha256"
    assert set(answer.headers["tus-extension"].split(",")) == {
        *("creation", "creation-with-upload", "creation-defer-length", "termination", "checksum", "expiration"),
    }


@pytest.mark.parametrize("sent", [{}, {"Tus-Resumable": "0.2.2"}])
async def test_another_version_is_refused(admin: Caller, project_id: uuid.UUID, sent: dict[str, str]) -> None:
    path = await begun(admin, project_id, 10)
    for method, where in (("POST", path.rpartition("/")[0]), ("PATCH", path), ("DELETE", path)):
        headers = {"Upload-Length": "3", "Upload-Offset": "0", **sent}
        answer = await admin(method, where, headers=headers)
        assert code(answer) == (412, "unsupported_tus_version")
        assert (answer.headers["tus-version"], answer.headers["tus-resumable"]) == ("1.0.0", "1.0.0")


async def test_all_of_it_may_come_with_the_creation(admin: Caller, project_id: uuid.UUID) -> None:
    answer = await begin(admin, project_id, len(CONTENT), CONTENT)
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, str(len(CONTENT)))
    assert answer.headers["quarry-document-id"] in answer.headers["location"]


async def test_a_creation_that_fails_with_its_bytes_leaves_nothing(admin: Caller, project_id: uuid.UUID) -> None:
    assert code(await begin(admin, project_id, 3, CONTENT)) == (413, "exceeds_upload_length")
    path = f"/v1/projects/{project_id}/uploads"
    headers = {**TUS, "Upload-Length": "3", "Upload-Metadata": metadata(filename="a")}
    answer = await admin("POST", path, headers=headers, content=b"123")
    assert code(answer) == (415, "unsupported_media_type")


async def test_the_length_may_be_said_later(admin: Caller, project_id: uuid.UUID) -> None:
    path = await begun(admin, project_id, None)
    await add(admin, path, 0, CONTENT[:5])
    answer = await admin("HEAD", path, headers=TUS)
    assert (answer.headers["upload-defer-length"], answer.headers["upload-offset"]) == ("1", "5")
    assert "upload-length" not in answer.headers
    assert code(await add(admin, path, 5, CONTENT[5:], Upload_Length="4")) == (413, "exceeds_upload_length")
    done = await add(admin, path, 5, CONTENT[5:], Upload_Length=str(len(CONTENT)))
    assert "quarry-document-id" in done.headers


async def test_a_known_length_does_not_change(admin: Caller, project_id: uuid.UUID) -> None:
    path = await begun(admin, project_id, 10)
    assert code(await add(admin, path, 0, b"1", Upload_Length="11")) == (409, "length_known")
    assert (await add(admin, path, 0, b"1", Upload_Length="10")).status_code == 204


async def test_a_piece_belongs_at_the_end(admin: Caller, project_id: uuid.UUID) -> None:
    path = await begun(admin, project_id, 10)
    assert code(await add(admin, path, 1, b"1")) == (409, "wrong_offset")
    assert code(await add(admin, path, 0, b"12345678901")) == (413, "exceeds_upload_length")
    answer = await add(admin, path, 0, b"1", Content_Type="text/plain")
    assert code(answer) == (415, "unsupported_media_type")
    assert code(await add(admin, path, 0, b"1", Content_Encoding="gzip")) == (415, "unsupported_media_type")
    assert await offset_of(admin, path) == 0


async def test_a_checksum_decides_about_its_piece(admin: Caller, project_id: uuid.UUID) -> None:
    path = await begun(admin, project_id, len(CONTENT))
    half = CONTENT[:10]
    wrong = await add(admin, path, 0, half, **checksum(b"other"))
    assert code(wrong) == (460, "checksum_mismatch")
    assert await offset_of(admin, path) == 0
    assert (await add(admin, path, 0, half, **checksum(half))).headers["upload-offset"] == "10"
    rest = CONTENT[10:]
    assert "quarry-document-id" in (await add(admin, path, 10, rest, **checksum(rest, "sha256"))).headers
    other = await begun(admin, project_id, 3)
    for header in ("md5 abc", "sha1 ???", "sha1"):
        refused = await add(admin, other, 0, b"123", Upload_Checksum=header)
        assert refused.status_code in (400, 460)


async def test_a_terminated_upload_is_gone(admin: Caller, project_id: uuid.UUID) -> None:
    path = await begun(admin, project_id, 10)
    await add(admin, path, 0, b"1234")
    assert (await admin("DELETE", path, headers=TUS)).status_code == 204
    for method in ("HEAD", "DELETE"):
        assert (await admin(method, path, headers=TUS)).status_code == 404
    assert code(await add(admin, path, 4, b"5")) == (404, "not_found")


async def test_the_document_of_a_terminated_upload_stays(admin: Caller, project_id: uuid.UUID) -> None:
    answer = await begin(admin, project_id, len(CONTENT), CONTENT)
    assert (await admin("DELETE", answer.headers["location"], headers=TUS)).status_code == 204
    document = f"/v1/projects/{project_id}/documents/{answer.headers['quarry-document-id']}/content"
    assert (await admin("GET", document)).content == CONTENT


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"Upload-Length": "0"}, (422, "empty_document")),
        ({"Upload-Length": "4194305"}, (413, "document_too_large")),
        ({}, (400, "invalid_upload_header")),
        ({"Upload-Length": "3", "Upload-Defer-Length": "1"}, (400, "invalid_upload_header")),
        ({"Upload-Defer-Length": "2"}, (400, "invalid_upload_header")),
        ({"Upload-Length": "3", "Upload-Metadata": ""}, (422, "invalid_name")),
        ({"Upload-Length": "3", "Upload-Metadata": "filename ?"}, (400, "invalid_upload_header")),
        ({"Upload-Length": "3", "Upload-Metadata": "a YQ==,a YQ=="}, (400, "invalid_upload_header")),
        ({"Upload-Length": "3", "Upload-Metadata": metadata(name="a", duplicates="x")}, (400, "invalid_upload_header")),
        ({"Upload-Length": "3", "Upload-Metadata": metadata(name="a", metadata="[]")}, (422, "invalid_metadata")),
    ],
)
async def test_what_cannot_become_a_document_is_refused_at_once(
    admin: Caller, project_id: uuid.UUID, headers: dict[str, str], refused: tuple[int, str]
) -> None:
    sent = {**TUS, "Upload-Metadata": metadata(filename="a.txt"), **headers}
    answer = await admin("POST", f"/v1/projects/{project_id}/uploads", headers=sent)
    assert code(answer) == refused
    assert answer.headers["tus-resumable"] == "1.0.0"


@pytest.mark.parametrize("length", [None, len(CONTENT)])
async def test_content_that_is_there_is_refused_for_good(
    admin: Caller, project_id: uuid.UUID, length: int | None
) -> None:
    document = await admin.uploaded(project_id, CONTENT)
    path = await begun(admin, project_id, length, duplicates="reject")
    answer = await add(admin, path, 0, CONTENT, Upload_Length=str(len(CONTENT)))
    # Clients would try again after 409.
    assert code(answer) == (422, "duplicate_document")
    assert answer.json()["document_id"] == document["id"]
    assert (await admin("HEAD", path, headers=TUS)).status_code == 404


@pytest.mark.parametrize(("policy", "same"), [("link", False), ("new_version", True)])
async def test_duplicates_mean_what_they_mean_in_other_uploads(
    admin: Caller, project_id: uuid.UUID, policy: str, same: bool
) -> None:
    document = await admin.uploaded(project_id, CONTENT)
    path = await begun(admin, project_id, len(CONTENT), duplicates=policy)
    answer = await add(admin, path, 0, CONTENT)
    assert (answer.headers["quarry-document-id"] == document["id"]) is same
    assert (await admin("HEAD", path, headers=TUS)).headers["quarry-document-id"] == answer.headers[
        "quarry-document-id"
    ]


async def test_who_may_not_write_learns_and_changes_nothing(
    admin: Caller, outsider: Caller, project_id: uuid.UUID
) -> None:
    path = await begun(admin, project_id, 10)
    viewer, other = await admin.member(project_id, "viewer"), await outsider.create_project()
    foreign = f"/v1/projects/{other}/uploads/{path.rpartition('/')[2]}"
    elsewhere = f"/v1/projects/{await admin.create_project()}/uploads/{path.rpartition('/')[2]}"
    for caller, where, status in (
        (outsider, path, 404),
        (outsider, foreign, 404),
        (admin, elsewhere, 404),
        (viewer, path, 403),
    ):
        assert (await add(caller, where, 0, b"12345")).status_code == status
        for method in ("GET", "HEAD", "DELETE"):
            assert (await caller(method, where, headers=TUS)).status_code == status
    assert code(await begin(viewer, project_id, 3)) == (403, "forbidden")
    assert code(await begin(outsider, project_id, 3)) == (404, "not_found")
    editor = await admin.member(project_id, "editor")
    assert (await add(editor, path, 0, b"12345")).status_code == 204
    assert await offset_of(admin, path) == 5


async def test_every_response_speaks_the_protocol(
    client: httpx.AsyncClient, running: tuple[StartedApp, httpx.AsyncClient]
) -> None:
    path = f"/v1/projects/{uuid.uuid4()}/uploads"
    for method, where in (("POST", path), ("HEAD", f"{path}/{uuid.uuid4()}"), ("PUT", path)):
        assert (await client.request(method, where)).headers["tus-resumable"] == "1.0.0"
    assert "tus-resumable" not in (await client.get("/v1/projects")).headers
