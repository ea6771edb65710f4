import asyncio
import gzip
import hashlib
import os
import unicodedata
import uuid
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from sqlalchemy import func, select

from services.projects.blobs.store import BlobStore, StorageFull, StorageUnavailable
from services.projects.documents.models import Document
from services.projects.documents.upload import FORM_OVERHEAD_BYTES, MAX_FIELD_BYTES
from services.projects.main import create_app
from shared.auth import Scope
from shared.tenancy import Database
from tests.services.projects.blobs.files import blobs_of
from tests.services.projects.callers import Caller, announced, code, events
from tests.support.polling import eventually
from tests.support.serving import make_app, serve

LIMIT = 4 * 1024 * 1024
BOUNDARY = "a-boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(name: str, value: bytes, *, filename: str | None = None, content_type: str | None = None) -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    lines = [f"--{BOUNDARY}", f"Content-Disposition: {disposition}"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    return "\r\n".join([*lines, "", ""]).encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


async def post_form(caller: Caller, project_id: uuid.UUID, body: bytes, **options: Any) -> httpx.Response:
    headers = {**FORM, **options.pop("headers", {})}
    return await caller("POST", f"/v1/projects/{project_id}/documents", content=body, headers=headers, **options)


async def rows(database: Database, tenant_id: uuid.UUID) -> int:
    async with database.tenant(tenant_id) as session:
        return await session.scalar(select(func.count(Document.id))) or 0


async def test_a_form_is_stored_and_answered_in_full(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID, blob_root: Path
) -> None:
    content = b"# Tides\r\n--a-boundar\r\n" * 1000
    answer = await admin(
        "POST",
        f"/v1/projects/{project_id}/documents",
        files={"file": ("tides.md", content, "Text/Markdown; charset=utf-8")},
        data={"metadata": '{"lang": "en"}'},
    )
    assert answer.status_code == 201
    document = answer.json()
    assert answer.headers["location"] == f"/v1/projects/{project_id}/documents/{document['id']}"
    assert answer.headers["etag"] == '"1"'
    moment = document.pop("created_at")
    document_id = document.pop("id")
    assert document == {
        "project_id": str(project_id),
        "name": "tides.md",
        "title": None,
        "content_type": "text/markdown",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "version": 1,
        "live_version": None,
        "status": "queued",
        "duplicate_of": None,
        "batch_id": None,
        "linked": False,
        "metadata": {"lang": "en"},
        "error": None,
        "indexed_at": None,
        "chunk_count": None,
        "partly_read": None,
    }
    path = blob_root / str(tenant_id) / str(project_id) / document_id / "1"
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert blobs_of(blob_root, tenant_id) == [path]

    envelope = (await events(database, tenant_id))[-1]
    assert envelope.type == "projects.document.uploaded.v1"
    assert (envelope.sequence, envelope.subject) == (1, document_id)
    assert envelope.data == {
        "project_id": str(project_id),
        "document_id": document_id,
        "version": 1,
        "actor_id": str(admin.user_id),
        "name": "tides.md",
        "content_type": "text/markdown",
        "size": len(content),
        "sha256": document["sha256"],
        "metadata": {"lang": "en"},
        "lane": "interactive",
        "created_at": moment,
        "linked_to": None,
    }


async def test_a_raw_body_is_stored_under_the_name_of_the_query(admin: Caller, project_id: uuid.UUID) -> None:
    answer = await admin(
        "POST",
        f"/v1/projects/{project_id}/documents",
        params={"name": "notes/../a b.txt", "metadata": '{"n": 1}'},
        content=b"text",
        headers={"Content-Type": "text/plain"},
    )
    assert answer.status_code == 201
    document = answer.json()
    assert (document["name"], document["content_type"], document["size"]) == ("a b.txt", "text/plain", 4)
    assert document["metadata"] == {"n": 1}


@pytest.mark.parametrize(
    ("declared", "kept"),
    [
        ("application/x-www-form-urlencoded", "application/octet-stream"),
        ("TEXT/HTML;charset=x", "text/html"),
        ("nonsense", "application/octet-stream"),
        ("text/plain, text/html", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
async def test_the_declared_type_is_kept_when_it_is_one(
    admin: Caller, project_id: uuid.UUID, declared: str, kept: str
) -> None:
    path = f"/v1/projects/{project_id}/documents"
    answer = await admin(
        "POST", path, params={"name": "a"}, content=uuid.uuid4().bytes, headers={"Content-Type": declared}
    )
    assert answer.json()["content_type"] == kept


async def test_form_fields_may_come_after_the_file_and_override_the_query(admin: Caller, project_id: uuid.UUID) -> None:
    body = form(
        part("file", b"text", filename="a.txt"),
        part("metadata", b'{"from": "form"}'),
        part("name", "Ünicode.txt".encode()),
        part("duplicates", b"reject"),
    )
    query = {"metadata": '{"from": "query"}', "name": "query.txt"}
    document = (await post_form(admin, project_id, body, params=query)).json()
    assert (document["name"], document["metadata"]) == ("Ünicode.txt", {"from": "form"})
    assert document["content_type"] == "application/octet-stream"


async def test_the_query_names_a_form_that_has_no_name_of_its_own(admin: Caller, project_id: uuid.UUID) -> None:
    body = form(part("file", b"text", filename="a.txt"), part("duplicates", b"link"))
    named = await post_form(admin, project_id, body, params={"name": "../folder/query.txt"})
    assert named.json()["name"] == "query.txt"
    assert code(await post_form(admin, project_id, body, params={"name": ".."})) == (422, "invalid_name")


@pytest.mark.parametrize("size", [1, 1023, 4096])
async def test_a_form_may_arrive_in_pieces_of_any_size(admin: Caller, project_id: uuid.UUID, size: int) -> None:
    content = (b"\r\n--" + BOUNDARY.encode()[:-1]) * 300
    body = form(part("metadata", b"{}"), part("file", content, filename="a.bin"))

    async def pieces() -> Any:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    answer = await admin("POST", f"/v1/projects/{project_id}/documents", content=pieces(), headers=FORM)
    assert answer.json()["sha256"] == hashlib.sha256(content).hexdigest()


FILE = part("file", b"text", filename="a.txt")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "malformed_upload")),
        (b"no form at all", (400, "malformed_upload")),
        (FILE, (400, "malformed_upload")),
        (form(FILE)[:-10], (400, "malformed_upload")),
        (form(), (422, "invalid_upload")),
        (form(part("metadata", b"{}")), (422, "invalid_upload")),
        (form(FILE, FILE), (422, "invalid_upload")),
        (form(FILE, *[part("metadata", b"{}")] * 64), (422, "invalid_upload")),
        (form(FILE, part("other", bytes(1024 * 1024))), (413, "document_too_large")),
        (form(FILE, part("duplicates", b"never")), (422, "invalid_upload")),
        (form(FILE, part("metadata", b"{")), (422, "invalid_metadata")),
        (form(FILE, part("metadata", b"[]")), (422, "invalid_metadata")),
        (form(FILE, part("metadata", b'{"n": NaN}')), (422, "invalid_metadata")),
        (form(FILE, part("metadata", b'{"n": 1e400}')), (422, "invalid_metadata")),
        (form(FILE, part("metadata", b"[" * 60_000)), (422, "invalid_metadata")),
        (form(FILE, part("metadata", b'{"n": "' + b"x" * 17_000 + b'"}')), (422, "invalid_metadata")),
        (form(FILE, part("metadata", b" " * (MAX_FIELD_BYTES + 1))), (413, "too_large")),
        (form(part("file", b"text", filename="")), (422, "invalid_name")),
        (form(part("file", b"text")), (422, "invalid_name")),
        (form(part("file", b"text", filename="..")), (422, "invalid_name")),
        (form(part("file", b"", filename="a.txt")), (422, "empty_document")),
    ],
)
async def test_a_bad_form_leaves_nothing(
    admin: Caller,
    database: Database,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    blob_root: Path,
    body: bytes,
    expected: tuple[int, str],
) -> None:
    assert code(await post_form(admin, project_id, body)) == expected
    assert await rows(database, tenant_id) == 0
    assert blobs_of(blob_root, tenant_id) == []


@pytest.mark.parametrize("content_type", ["multipart/form-data", f"multipart/form-data; boundary={'x' * 500}"])
async def test_a_form_without_a_usable_boundary_is_refused(
    admin: Caller, project_id: uuid.UUID, content_type: str
) -> None:
    answer = await post_form(admin, project_id, form(FILE), headers={"Content-Type": content_type})
    assert code(answer) == (400, "malformed_upload")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, (422, "invalid_name")),
        ({"name": "///"}, (422, "invalid_name")),
        ({"name": "a", "metadata": "no"}, (422, "invalid_metadata")),
        ({"name": "a", "metadata": '{"a": "\\u0000"}'}, (422, "invalid_metadata")),
        ({"name": "a", "duplicates": "whatever"}, (422, "validation_failed")),
        ({"name": "a" * 2000}, (422, "validation_failed")),
    ],
)
async def test_a_bad_raw_upload_is_refused(
    admin: Caller, project_id: uuid.UUID, params: dict[str, str], expected: tuple[int, str]
) -> None:
    answer = await admin("POST", f"/v1/projects/{project_id}/documents", params=params, content=b"text")
    assert code(answer) == expected


async def test_an_empty_body_is_refused(admin: Caller, project_id: uuid.UUID) -> None:
    assert code(await admin.upload(project_id, b"")) == (422, "empty_document")


async def test_a_document_of_exactly_the_limit_is_accepted(admin: Caller, project_id: uuid.UUID) -> None:
    content = bytes(LIMIT)
    assert (await admin.upload(project_id, content)).json()["size"] == LIMIT
    assert (await post_form(admin, project_id, form(part("file", content, filename="a")))).status_code == 201


async def test_the_limit_holds_for_what_is_declared_and_for_what_arrives(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID, blob_root: Path
) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while sent < 4 * LIMIT:
            sent += 65536
            yield bytes(65536)

    async def endless_form() -> Any:
        yield part("file", b"", filename="a")[:-2]
        async for chunk in endless():
            yield chunk

    async def endless_end() -> Any:
        yield form(FILE)
        async for chunk in endless():
            yield chunk

    too_large = (413, "document_too_large")
    assert code(await admin.upload(project_id, bytes(LIMIT + 1))) == too_large
    path = f"/v1/projects/{project_id}/documents"
    for headers, content in (({}, endless()), (FORM, endless_form()), (FORM, endless_end())):
        sent = 0
        assert code(await admin("POST", path, params={"name": "a"}, content=content, headers=headers)) == too_large
        assert sent <= LIMIT + FORM_OVERHEAD_BYTES + 2 * 65536
    assert await rows(database, tenant_id) == 0
    assert blobs_of(blob_root, tenant_id) == []


async def test_the_same_content_again_is_a_document_of_its_own_that_names_the_first(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID
) -> None:
    first = await admin.uploaded(project_id, b"same")
    second = await admin.uploaded(project_id, b"same", name="other.txt")
    third = await admin.uploaded(project_id, b"same")
    assert [second["duplicate_of"], third["duplicate_of"]] == [first["id"]] * 2
    assert second["sha256"] == first["sha256"]
    assert second["status"] == "queued"
    assert [kind for kind, _ in await announced(database, tenant_id)].count("document.uploaded") == 3
    elsewhere = await admin.create_project(name="Other")
    assert (await admin.uploaded(elsewhere, b"same"))["duplicate_of"] is None


async def test_the_same_content_again_is_refused_when_asked_to(
    admin: Caller, project_id: uuid.UUID, blob_root: Path, tenant_id: uuid.UUID
) -> None:
    first = await admin.uploaded(project_id, b"same", duplicates="reject")
    answer = await admin.upload(project_id, b"same", duplicates="reject")
    assert code(answer) == (409, "duplicate_document")
    assert first["id"] in answer.json()["detail"]
    assert len(blobs_of(blob_root, tenant_id)) == 1
    await admin("DELETE", f"/v1/projects/{project_id}/documents/{first['id']}")
    assert (await admin.upload(project_id, b"same", duplicates="reject")).status_code == 201


async def test_of_the_same_content_uploaded_at_once_one_is_first(admin: Caller, project_id: uuid.UUID) -> None:
    answers = await asyncio.gather(*(admin.upload(project_id, b"same", duplicates="reject") for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]


async def test_uploading_takes_the_scope_and_an_editor(admin: Caller, project_id: uuid.UUID) -> None:
    editor = await admin.member(project_id, "editor")
    assert (await editor.upload(project_id)).status_code == 201
    reader = editor.limited(scopes={Scope.DOCUMENTS_READ})
    assert code(await reader.upload(project_id)) == (403, "forbidden")


async def test_a_large_upload_that_is_not_allowed_is_refused_before_its_bytes(
    admin: Caller, project_id: uuid.UUID
) -> None:
    viewer = await admin.member(project_id, "viewer")
    read = False

    async def body() -> Any:
        nonlocal read
        read = True
        yield b"x"

    answer = await viewer("POST", f"/v1/projects/{project_id}/documents", params={"name": "a"}, content=body())
    assert code(answer) == (403, "forbidden")
    assert not read


async def test_a_role_lost_while_bytes_arrive_ends_the_upload(
    admin: Caller, database: Database, tenant_id: uuid.UUID, project_id: uuid.UUID, blob_root: Path
) -> None:
    editor = await admin.member(project_id, "editor")

    async def slowly() -> Any:
        yield b"first half"
        await admin("DELETE", f"/v1/projects/{project_id}/members/{editor.user_id}")
        yield b"second half"

    answer = await editor("POST", f"/v1/projects/{project_id}/documents", params={"name": "a"}, content=slowly())
    assert code(answer) == (404, "not_found")
    assert await rows(database, tenant_id) == 0
    assert blobs_of(blob_root, tenant_id) == []


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, FORM])
async def test_an_aborted_upload_leaves_nothing(
    admin: Caller,
    database: Database,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    environment: dict[str, str],
    blob_root: Path,
    headers: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    body = part("file", b"", filename="a.txt")[:-2] + bytes(2 * 1024 * 1024)

    async def on_disk() -> bool:
        return any(path.stat().st_size for path in blobs_of(blob_root, tenant_id))

    async def gone() -> bool:
        return not blobs_of(blob_root, tenant_id)

    async with serve(make_app(create_app, environment)) as url:
        port = int(url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = [
            f"POST /v1/projects/{project_id}/documents?name=a.txt HTTP/1.1",
            "Host: projects",
            f"Content-Length: {3 * 1024 * 1024}",
            *(f"{name}: {value}" for name, value in {**admin.headers, **headers}.items()),
            "\r\n",
        ]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()
        await eventually(on_disk)
        writer.transport.abort()
        await eventually(gone)
    assert await rows(database, tenant_id) == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [(StorageFull(), (507, "storage_full")), (StorageUnavailable(), (503, "storage_unavailable"))],
)
async def test_a_store_that_cannot_write_is_a_clear_answer(
    admin: Caller,
    blobs: BlobStore,
    database: Database,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    expected: tuple[int, str],
) -> None:
    async def refuse(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(blobs, "run", refuse)
        assert code(await admin.upload(project_id)) == expected
    assert await rows(database, tenant_id) == 0


async def test_parts_come_in_any_order_and_unknown_ones_are_ignored(admin: Caller, project_id: uuid.UUID) -> None:
    named = [part("name", b"real.txt"), part("metadata", b'{"a": 1}'), part("duplicates", b"link")]
    unknown = [part("tenant_id", b"x"), part("thumbnail", bytes(9000), filename="t.png"), part("", b"")]
    for parts in ([*named, *unknown, FILE], [FILE, *unknown, *named], [*unknown, FILE, *reversed(named)]):
        answer = await post_form(admin, project_id, form(*parts))
        assert answer.status_code == 201, answer.text
        assert (answer.json()["name"], answer.json()["metadata"], answer.json()["size"]) == ("real.txt", {"a": 1}, 4)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "identity, GZIP"])
async def test_a_compressed_upload_is_stored_as_what_was_compressed(
    admin: Caller, project_id: uuid.UUID, encoding: str
) -> None:
    content = b"The tide comes in twice a day. " * 5000
    raw = await admin(
        "POST",
        f"/v1/projects/{project_id}/documents",
        params={"name": "tides.txt"},
        content=gzip.compress(content),
        headers={"Content-Type": "text/plain", "Content-Encoding": encoding},
    )
    whole_form = gzip.compress(form(part("file", content, filename="tides.txt")))
    sent_as_form = await post_form(admin, project_id, whole_form, headers={"Content-Encoding": encoding})
    for answer in (raw, sent_as_form):
        assert answer.status_code == 201, answer.text
        assert answer.json()["sha256"] == hashlib.sha256(content).hexdigest()
        assert answer.json()["size"] == len(content)


@pytest.mark.parametrize(
    ("body", "encoding", "expected"),
    [
        (gzip.compress(b"text")[:-3], "gzip", (400, "malformed_content_encoding")),
        (b"text", "gzip", (400, "malformed_content_encoding")),
        (gzip.compress(os.urandom(LIMIT + 1)), "gzip", (413, "document_too_large")),
        (gzip.compress(bytes(3 * LIMIT)), "gzip", (413, "too_large")),
        (b"text", "br", (415, "unsupported_content_encoding")),
        (gzip.compress(gzip.compress(b"text")), "gzip, gzip", (415, "unsupported_content_encoding")),
        (gzip.compress(b""), "gzip", (422, "empty_document")),
    ],
    # A stream of gzip holds the time of its making, and an id has to be the same in every process.
    ids=["cut", "plain", "too large", "a bomb", "another coding", "twice", "empty"],
)
async def test_a_compressed_upload_that_is_not_acceptable_leaves_nothing(
    admin: Caller,
    database: Database,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    blob_root: Path,
    body: bytes,
    encoding: str,
    expected: tuple[int, str],
) -> None:
    answer = await admin(
        "POST",
        f"/v1/projects/{project_id}/documents",
        params={"name": "a.txt"},
        content=body,
        headers={"Content-Encoding": encoding},
    )
    assert code(answer) == expected
    assert answer.headers.get("accept-encoding") == ("gzip" if expected[0] == 415 else None)
    assert await rows(database, tenant_id) == 0
    assert blobs_of(blob_root, tenant_id) == []


async def test_a_part_in_base64_is_refused(admin: Caller, project_id: uuid.UUID) -> None:
    for encoding, status in ((b"base64", 415), (b"Quoted-Printable", 415), (b"binary", 201), (b"8bit", 201)):
        encoded = FILE.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n", 1)
        assert (await post_form(admin, project_id, form(encoded))).status_code == status


@pytest.mark.parametrize("sent", ["NFC", "NFD"])
@pytest.mark.parametrize("name", ["gr\u00f6\u00dfe \u1e9b\u0323.txt", '\uac00\ub098 "x".md', "\u00e9" * 200])
async def test_a_name_is_found_again_in_every_normal_form(
    admin: Caller, project_id: uuid.UUID, name: str, sent: Literal["NFC", "NFD"]
) -> None:
    document = await admin.uploaded(project_id, name=unicodedata.normalize(sent, name))
    assert document["name"] == unicodedata.normalize("NFC", name)
    path = f"/v1/projects/{project_id}/documents"
    for asked in (unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name), f"a/folder/{name} "):
        found = await admin("GET", path, params={"name": asked})
        assert [each["id"] for each in found.json()["items"]] == [document["id"]], found.text
    renamed = await admin("PATCH", f"{path}/{document['id']}", json={"name": unicodedata.normalize("NFD", "n" + name)})
    assert renamed.json()["name"] == unicodedata.normalize("NFC", "n" + name)
    for nobodys in ("..", "/", "x" + name):
        assert (await admin("GET", path, params={"name": nobodys})).json()["items"] == []
