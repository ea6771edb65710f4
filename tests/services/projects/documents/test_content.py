import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.projects.blobs.files import OpenFile
from services.projects.main import create_app
from tests.services.projects.callers import Caller, code
from tests.support.serving import make_app, serve

CONTENT = bytes(range(256)) * 4000
SIZE = len(CONTENT)
LIMIT = 4 * 1024 * 1024


@pytest.fixture
async def document(admin: Caller, project_id: uuid.UUID) -> dict[str, Any]:
    return await admin.uploaded(project_id, CONTENT, name="Prüf bericht;.pdf")


async def get(admin: Caller, document: dict[str, Any], **headers: str) -> httpx.Response:
    path = f"/v1/projects/{document['project_id']}/documents/{document['id']}/content"
    return await admin("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})


async def test_the_whole_content_comes_as_a_safe_attachment(admin: Caller, document: dict[str, Any]) -> None:
    answer = await get(admin, document)
    assert answer.status_code == 200
    assert answer.content == CONTENT
    assert answer.headers["content-length"] == str(SIZE)
    assert answer.headers["etag"] == f'"{document["sha256"]}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"Pruf bericht_.pdf\"; filename*=UTF-8''Pr%C3%BCf%20bericht%3B.pdf"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert answer.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=1000-", 1000, SIZE),
        ("bytes=300000-900000", 300_000, 900_001),
        ("bytes=-5", SIZE - 5, SIZE),
        (f"bytes=-{SIZE * 2}", 0, SIZE),
        (f"bytes={SIZE - 1}-{SIZE * 2}", SIZE - 1, SIZE),
        ("Bytes = 5-6", 5, 7),
    ],
)
async def test_a_range_is_answered_with_just_that(
    admin: Caller, document: dict[str, Any], asked: str, start: int, end: int
) -> None:
    answer = await get(admin, document, range=asked)
    assert answer.status_code == 206
    assert answer.content == CONTENT[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=-0"])
async def test_a_range_outside_the_content_is_refused(admin: Caller, document: dict[str, Any], asked: str) -> None:
    answer = await get(admin, document, range=asked)
    assert code(answer) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "asked", ["bytes=9-5", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes", "", "bytes=1-" + "9" * 300]
)
async def test_a_range_we_do_not_take_is_answered_with_the_whole(
    admin: Caller, document: dict[str, Any], asked: str
) -> None:
    answer = await get(admin, document, range=asked)
    assert (answer.status_code, len(answer.content)) == (200, SIZE)


async def test_a_range_of_older_content_is_answered_with_the_whole(admin: Caller, document: dict[str, Any]) -> None:
    tag = f'"{document["sha256"]}"'
    assert (await get(admin, document, range="bytes=0-1", if_range=tag)).status_code == 206
    assert (await get(admin, document, range="bytes=0-1", if_range='"older"')).status_code == 200
    assert (await get(admin, document, range="bytes=0-1", if_range=f"W/{tag}")).status_code == 200


async def test_conditions_are_heeded_in_their_order(admin: Caller, document: dict[str, Any]) -> None:
    tag = f'"{document["sha256"]}"'
    past, future = "Mon, 01 Jan 2001 00:00:00 GMT", "Thu, 01 Jan 2099 00:00:00 GMT"
    modified = (await get(admin, document)).headers["last-modified"]
    for failed in (
        {"if_match": '"x"'},
        {"if_match": f"W/{tag}"},
        {"if_match": '"x"', "if_none_match": tag},
        {"if_unmodified_since": past},
    ):
        answer = await get(admin, document, range="bytes=0-1", **failed)
        assert code(answer) == (412, "precondition_failed"), failed
    for held in (
        {"if_match": tag},
        {"if_match": "*"},
        {"if_match": f'"x", {tag}'},
        {"if_match": tag, "if_unmodified_since": past},
        {"if_unmodified_since": modified},
        {"if_unmodified_since": future},
        {"if_unmodified_since": "no date"},
        {"if_modified_since": past},
        {"if_none_match": '"x"', "if_modified_since": future},
    ):
        assert (await get(admin, document, range="bytes=0-1", **held)).status_code == 206, held
    for known in ({"if_modified_since": modified}, {"if_modified_since": future}):
        assert (await get(admin, document, **known)).status_code == 304, known
    assert (await get(admin, document, range="bytes=0-1", if_range=modified)).status_code == 206
    assert (await get(admin, document, range="bytes=0-1", if_range=past)).status_code == 200


async def test_who_has_the_content_is_told_so(admin: Caller, document: dict[str, Any]) -> None:
    tag = f'"{document["sha256"]}"'
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = await get(admin, document, if_none_match=known, range="bytes=0-1")
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
    assert (await get(admin, document, if_none_match='"x"')).status_code == 200


async def test_head_tells_the_size_without_the_content(admin: Caller, document: dict[str, Any]) -> None:
    path = f"/v1/projects/{document['project_id']}/documents/{document['id']}/content"
    whole = await admin("GET", path)
    for headers in ({}, {"Range": "bytes=0-1"}, {"Range": f"bytes={SIZE}-"}):
        answer = await admin("HEAD", path, headers=headers)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(SIZE)
        assert {**answer.headers, "x-request-id": ""} == {**whole.headers, "x-request-id": ""}


async def test_a_reader_that_goes_away_is_left_alone(
    admin: Caller, project_id: uuid.UUID, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a real connection: reading stops, and the file is closed."""
    large = await admin.uploaded(project_id, bytes(LIMIT))
    closed = asyncio.Event()
    read = 0
    real_chunks, real_close = OpenFile.chunks, OpenFile.close

    async def counted(blob: OpenFile, start: int, end: int) -> AsyncIterator[bytes]:
        nonlocal read
        async for chunk in real_chunks(blob, start, end):
            read += len(chunk)
            yield chunk

    async def close(blob: OpenFile) -> None:
        await real_close(blob)
        closed.set()

    monkeypatch.setattr(OpenFile, "chunks", counted)
    monkeypatch.setattr(OpenFile, "close", close)
    async with serve(make_app(create_app, environment)) as url, httpx.AsyncClient(base_url=url) as direct:
        path = f"/v1/projects/{project_id}/documents/{large['id']}/content"
        assert (await direct.head(path, headers=admin.headers)).headers["content-length"] == str(LIMIT)
        assert read == 0
        closed.clear()
        async with direct.stream("GET", path, headers=admin.headers) as answer:
            async for _ in answer.aiter_raw(1024):
                break
        await asyncio.wait_for(closed.wait(), 10)
    assert 0 < read <= LIMIT


@pytest.mark.parametrize(
    ("declared", "sent"),
    [
        ("application/pdf", "application/pdf"),
        ("text/plain", "text/plain"),
        ("text/html", "application/octet-stream"),
        ("image/svg+xml", "application/octet-stream"),
        ("application/xhtml+xml", "application/octet-stream"),
        ("text/javascript", "application/octet-stream"),
    ],
)
async def test_a_type_that_browsers_run_is_not_named(
    admin: Caller, project_id: uuid.UUID, declared: str, sent: str
) -> None:
    path = f"/v1/projects/{project_id}/documents"
    answer = await admin(
        "POST", path, params={"name": "x"}, content=uuid.uuid4().bytes, headers={"Content-Type": declared}
    )
    assert answer.json()["content_type"] == declared
    assert (await get(admin, answer.json())).headers["content-type"] == sent


async def test_neighbours_read_a_version_even_of_a_deleted_project(
    admin: Caller, neighbour: Caller, document: dict[str, Any]
) -> None:
    base = f"/internal/projects/{document['project_id']}/documents/{document['id']}/versions"
    assert (await neighbour("GET", f"{base}/1/content")).content == CONTENT
    assert (await neighbour("GET", f"{base}/1/content", headers={"Range": "bytes=1-2"})).content == CONTENT[1:3]
    assert code(await neighbour("GET", f"{base}/2/content")) == (404, "not_found")
    assert code(await neighbour("GET", f"{base}/0/content")) == (422, "validation_failed")
    await admin("DELETE", f"/v1/projects/{document['project_id']}", headers={"If-Match": "*"})
    assert (await neighbour("GET", f"{base}/1/content")).status_code == 200


@pytest.mark.parametrize(
    ("declared", "shown", "told"),
    [
        ("text/plain; charset=ISO-8859-2", "text/plain", "text/plain; charset=iso-8859-2"),
        ('Text/HTML;q=1;Charset="koi8-r" ', "text/html", "text/html; charset=koi8-r"),
        ("application/xml;charset=latin1", "application/xml", "application/xml; charset=latin1"),
        ("text/plain; charset=", "text/plain", "text/plain"),
        ("text/plain; charset=a b", "text/plain", "text/plain"),
        ("application/pdf; charset=utf-8", "application/pdf", "application/pdf"),
    ],
)
async def test_neighbours_are_told_the_charset_of_a_text(
    admin: Caller, neighbour: Caller, project_id: uuid.UUID, declared: str, shown: str, told: str
) -> None:
    path = f"/v1/projects/{project_id}/documents"
    headers = {"Content-Type": declared}
    answer = await admin("POST", path, params={"name": "x"}, content=uuid.uuid4().bytes, headers=headers)
    document = answer.json()
    assert document["content_type"] == shown
    assert (await admin("GET", f"{path}/{document['id']}")).json()["content_type"] == shown
    content = await neighbour("GET", f"/internal{path[3:]}/{document['id']}/versions/1/content")
    assert content.headers["content-type"] == told


async def test_neighbours_are_told_when_a_document_is_deleted(
    admin: Caller, neighbour: Caller, document: dict[str, Any]
) -> None:
    await admin("DELETE", f"/v1/projects/{document['project_id']}/documents/{document['id']}")
    path = f"/internal/projects/{document['project_id']}/documents/{document['id']}/versions/1/content"
    assert code(await neighbour("GET", path)) == (404, "not_found")


async def test_missing_bytes_are_an_outage_not_an_absence(
    admin: Caller, document: dict[str, Any], tenant_id: uuid.UUID, blob_root: Path
) -> None:
    place = blob_root / str(tenant_id) / document["project_id"] / document["id"] / "1"
    aside = place.with_name("aside")
    place.rename(aside)
    answer = await get(admin, document)
    assert code(answer) == (503, "storage_unavailable")
    assert answer.headers["retry-after"]
    aside.rename(place)
    assert (await get(admin, document)).status_code == 200
