"""Uploads whose requests, processes or permissions end at any point."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.projects import upload_turns
from services.projects.blobs.store import BlobKey
from services.projects.dependencies import Resources
from services.projects.upload_turns import Turns
from services.projects.uploads import completion, receiving, repository
from shared.tenancy import Database
from tests.services.projects.blobs.files import blobs_of
from tests.services.projects.callers import Caller, announced, code
from tests.services.projects.uploads.pieces import add, begun, checksum, cut_off, offset_of
from tests.support.identity import IdentityDouble
from tests.support.polling import eventually
from tests.support.resumable import TUS
from tests.support.serving import StartedApp

CONTENT = b"0123456789" * 50


class Crash:
    """A place at which the process ends."""

    async def reach(self) -> None:
        raise RuntimeError("crashed")


class Held:
    """A body that stops after its first chunk."""

    def __init__(self, first: bytes, rest: bytes = b"") -> None:
        self.first, self.rest = first, rest
        self.sent, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> AsyncIterator[bytes]:
        yield self.first
        self.sent.set()
        await self.go_on.wait()
        yield self.rest


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has arrived is recorded at once."""
    monkeypatch.setattr(receiving, "SAVE_SECONDS", 0.01)


async def document_of(caller: Caller, path: str) -> dict[str, Any]:
    shown = (await caller("GET", path)).json()
    project = f"/v1/projects/{shown['project_id']}"
    document: dict[str, Any] = (await caller("GET", f"{project}/documents/{shown['document_id']}")).json()
    return document


async def one_document(caller: Caller, project_id: uuid.UUID) -> bool:
    listed = (await caller("GET", f"/v1/projects/{project_id}/documents")).json()["items"]
    return [item["sha256"] for item in listed] == [hashlib.sha256(CONTENT).hexdigest()]


async def test_what_came_before_the_connection_broke_counts(
    admin: Caller, app: StartedApp, project_id: uuid.UUID
) -> None:
    path = await begun(admin, project_id, len(CONTENT))
    await cut_off(app, admin, path, 0, [CONTENT[:100], CONTENT[100:123]])
    assert await offset_of(admin, path) == 123
    await cut_off(app, admin, path, 123, [])
    assert (await add(admin, path, 123, CONTENT[123:])).status_code == 204
    assert (await document_of(admin, path))["sha256"] == hashlib.sha256(CONTENT).hexdigest()


async def test_nothing_counts_of_a_piece_that_broke_off_before_its_checksum_was_known(
    admin: Caller, app: StartedApp, project_id: uuid.UUID
) -> None:
    path = await begun(admin, project_id, len(CONTENT))
    await cut_off(app, admin, path, 0, [CONTENT[:100]], **checksum(CONTENT))
    assert await offset_of(admin, path) == 0


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("right", [True, False])
async def test_a_checksum_counts_for_all_that_came_however_long_it_took(
    admin: Caller, project_id: uuid.UUID, right: bool
) -> None:
    path = await begun(admin, project_id, len(CONTENT))
    await add(admin, path, 0, CONTENT[:7])

    async def slowly() -> AsyncIterator[bytes]:
        for place in range(7, len(CONTENT), 100):
            await asyncio.sleep(0.02)
            yield CONTENT[place : place + 100]

    sum_of = checksum(CONTENT[7:] if right else CONTENT)
    answer = await add(admin, path, 7, slowly(), **sum_of)
    assert answer.status_code == (204 if right else 460)
    assert await offset_of(admin, path) == (len(CONTENT) if right else 7)
    if not right:
        await add(admin, path, 7, CONTENT[7:])
    assert await one_document(admin, project_id)


@pytest.mark.usefixtures("often")
async def test_one_with_a_checksum_that_was_taken_over_ends(
    admin: Caller, app: StartedApp, project_id: uuid.UUID
) -> None:
    path = await begun(admin, project_id, len(CONTENT))
    body = Held(CONTENT[:100], CONTENT[100:])
    frozen = asyncio.create_task(add(admin, path, 0, body(), **checksum(CONTENT)))
    await body.sent.wait()
    here = app.resources(Resources)
    app.state["resources"] = replace(here, upload_turns=Turns())
    try:
        assert (await add(admin, path, 0, CONTENT)).status_code == 204
    finally:
        app.state["resources"] = here
    assert code(await frozen) == (423, "upload_taken_over")
    assert await one_document(admin, project_id)


@pytest.mark.usefixtures("often")
async def test_what_has_come_is_recorded_while_more_is_coming(
    admin: Caller, database: Database, project_id: uuid.UUID
) -> None:
    path = await begun(admin, project_id, len(CONTENT))
    body = Held(CONTENT[:100], CONTENT[100:])
    sending = asyncio.create_task(add(admin, path, 0, body()))

    async def recorded() -> bool:
        return bool((await admin("GET", path)).json()["offset"] == 100)

    await eventually(recorded)
    body.go_on.set()
    assert (await sending).status_code == 204


@pytest.mark.parametrize("method", ["HEAD", "PATCH"])
async def test_who_comes_next_ends_the_one_before_whose_bytes_count(
    admin: Caller, project_id: uuid.UUID, method: str
) -> None:
    path = await begun(admin, project_id, len(CONTENT))
    body = Held(CONTENT[:100])
    dead = asyncio.create_task(add(admin, path, 0, body()))
    await body.sent.wait()
    if method == "HEAD":
        assert await offset_of(admin, path) == 100
    else:
        assert code(await add(admin, path, 0, CONTENT)) == (409, "wrong_offset")
    assert code(await dead) == (423, "upload_taken_over")
    assert (await add(admin, path, 100, CONTENT[100:])).status_code == 204
    assert await one_document(admin, project_id)


@pytest.mark.usefixtures("often")
async def test_a_request_in_another_process_that_was_taken_over_records_nothing_more(
    admin: Caller, app: StartedApp, database: Database, project_id: uuid.UUID
) -> None:
    path = await begun(admin, project_id, len(CONTENT))
    body = Held(CONTENT[:100], b"x" * 100)
    frozen = asyncio.create_task(add(admin, path, 0, body()))
    await body.sent.wait()
    here = app.resources(Resources)
    # What it knows of turns is of no help here.
    app.state["resources"] = replace(here, upload_turns=Turns())
    try:
        offset = await offset_of(admin, path)
        assert offset in (0, 100)
        body.go_on.set()
        assert (await add(admin, path, offset, CONTENT[offset:])).status_code == 204
    finally:
        app.state["resources"] = here
    assert code(await frozen) == (423, "upload_taken_over")
    assert await one_document(admin, project_id)


async def test_a_reader_disturbs_nobody(admin: Caller, project_id: uuid.UUID) -> None:
    path = await begun(admin, project_id, len(CONTENT))
    body = Held(CONTENT[:100], CONTENT[100:])
    sending = asyncio.create_task(add(admin, path, 0, body()))
    await body.sent.wait()
    assert (await admin("GET", path)).json()["offset"] == 0
    assert (await admin("HEAD", path)).status_code == 200
    body.go_on.set()
    assert (await sending).status_code == 204


async def test_one_that_does_not_end_keeps_the_upload(
    admin: Caller, app: StartedApp, project_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_turns, "ENDING_SECONDS", 0.05)
    path = await begun(admin, project_id, len(CONTENT))
    assert admin.tenant_id is not None
    with app.resources(Resources).upload_turns.take(admin.tenant_id, uuid.UUID(path.rpartition("/")[2])):
        assert (await admin("HEAD", path, headers=TUS)).status_code == 423


async def test_nobody_ends_the_request_of_another_tenant(
    admin: Caller, outsider: Caller, project_id: uuid.UUID
) -> None:
    path = await begun(admin, project_id, len(CONTENT))
    body = Held(CONTENT[:100], CONTENT[100:])
    sending = asyncio.create_task(add(admin, path, 0, body()))
    await body.sent.wait()
    upload_id = path.rpartition("/")[2]
    for where in (path, f"/v1/projects/{await outsider.create_project()}/uploads/{upload_id}"):
        assert (await outsider("HEAD", where, headers=TUS)).status_code == 404
        assert (await add(outsider, where, 0, b"x")).status_code == 404
        assert (await outsider("DELETE", where, headers=TUS)).status_code == 404
    viewer = await admin.member(project_id, "viewer")
    assert (await viewer("HEAD", path, headers=TUS)).status_code == 403
    body.go_on.set()
    assert (await sending).status_code == 204


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (receiving, "BEFORE_SAVE"),
        (receiving, "AFTER_SAVE"),
        (completion, "AFTER_SEAL"),
        (completion, "BEFORE_KEEP"),
    ],
)
@pytest.mark.parametrize("by", ["HEAD", "PATCH"])
async def test_a_crash_at_the_last_byte_makes_one_document(
    admin: Caller,
    database: Database,
    project_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    by: str,
) -> None:
    path = await begun(admin, project_id, len(CONTENT))
    with monkeypatch.context() as patch:
        patch.setattr(module, name, Crash())
        assert (await add(admin, path, 0, CONTENT)).status_code == 500
    offset = (await admin("GET", path)).json()["offset"]
    assert offset == (0 if name == "BEFORE_SAVE" else len(CONTENT))
    if by == "HEAD":
        assert await offset_of(admin, path) == offset
    assert (await add(admin, path, offset, CONTENT[offset:])).status_code == 204
    for _ in range(2):
        assert (await admin("HEAD", path, headers=TUS)).headers["quarry-document-id"] == path.rpartition("/")[2]
    assert await one_document(admin, project_id)
    assert admin.tenant_id is not None
    told = [kind for kind, _ in await announced(database, admin.tenant_id)]
    assert told.count("document.uploaded") == 1
    content = await admin("GET", f"/v1/projects/{project_id}/documents/{path.rpartition('/')[2]}/content")
    assert content.content == CONTENT


async def test_one_that_lost_its_upload_at_the_end_makes_no_document(
    admin: Caller,
    app: StartedApp,
    database: Database,
    project_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = await begun(admin, project_id, len(CONTENT))
    here = app.resources(Resources)

    class TakeOver:
        async def reach(self) -> None:
            patch.undo()
            app.state["resources"] = replace(here, upload_turns=Turns())
            assert await offset_of(admin, path) == len(CONTENT)

    with monkeypatch.context() as patch:
        patch.setattr(completion, "AFTER_SEAL", TakeOver())
        late = await add(admin, path, 0, CONTENT)
    app.state["resources"] = here
    assert code(late) == (423, "upload_taken_over")
    assert await one_document(admin, project_id)


async def test_bytes_are_refused_once_the_right_to_send_them_is_gone(
    admin: Caller, tokens: IdentityDouble, project_id: uuid.UUID
) -> None:
    editor = await admin.member(project_id, "editor")
    credential_id = uuid.uuid4()
    caller = editor.limited(credential_id=credential_id)
    path = await begun(caller, project_id, len(CONTENT))

    async def body() -> AsyncIterator[bytes]:
        yield CONTENT[:100]
        tokens.now[credential_id] = None
        yield CONTENT[100:]

    assert code(await add(caller, path, 0, body())) == (401, "unauthenticated")
    listed = await admin("GET", f"/v1/projects/{project_id}/documents")
    assert listed.json()["items"] == []
    # Complete: whoever may records it.
    assert await offset_of(admin, path) == len(CONTENT)
    assert await one_document(admin, project_id)


async def test_a_role_taken_back_ends_an_upload_at_its_last_byte(admin: Caller, project_id: uuid.UUID) -> None:
    editor = await admin.member(project_id, "editor")
    path = await begun(editor, project_id, len(CONTENT))
    member = f"/v1/projects/{project_id}/members/{editor.user_id}"

    async def body() -> AsyncIterator[bytes]:
        yield CONTENT[:100]
        assert (await admin("PUT", member, json={"role": "viewer"})).status_code == 200
        yield CONTENT[100:]

    assert code(await add(editor, path, 0, body())) == (403, "forbidden")
    assert (await admin("GET", f"/v1/projects/{project_id}/documents")).json()["items"] == []


async def test_an_upload_that_is_removed_meanwhile_leaves_nothing(
    admin: Caller, app: StartedApp, project_id: uuid.UUID, blob_root: Path
) -> None:
    path = await begun(admin, project_id, len(CONTENT))
    body = Held(CONTENT[:100], CONTENT[100:])
    sending = asyncio.create_task(add(admin, path, 0, body()))
    await body.sent.wait()
    here = app.resources(Resources)
    app.state["resources"] = replace(here, upload_turns=Turns())
    assert (await admin("DELETE", path, headers=TUS)).status_code == 204
    app.state["resources"] = here
    body.go_on.set()
    assert (await sending).status_code in (404, 503)
    tenant_id = admin.tenant_id
    assert tenant_id is not None

    async def removed() -> bool:
        return blobs_of(blob_root, tenant_id) == []

    await eventually(removed)


@pytest.mark.parametrize("known", [True, False], ids=["state of the hash kept", "no library for it"])
async def test_the_hash_goes_on_where_it_was_or_reads_again(
    admin: Caller, project_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    path = await begun(admin, project_id, len(CONTENT))
    for offset in range(0, len(CONTENT), 77):
        with monkeypatch.context() as patch:
            if not known:
                patch.setattr("services.projects.blobs.resumable_sha256.available", lambda: False)
            assert (await add(admin, path, offset, CONTENT[offset : offset + 77])).status_code == 204
    assert await one_document(admin, project_id)


async def test_a_state_without_its_bytes_is_no_upload(
    admin: Caller, database: Database, project_id: uuid.UUID, blob_root: Path
) -> None:
    """A file that is shorter than it was, as after a restore of half a backup."""
    path = await begun(admin, project_id, len(CONTENT))
    await add(admin, path, 0, CONTENT[:100])
    assert admin.tenant_id is not None
    async with database.tenant(admin.tenant_id) as session:
        upload = await repository.locked(session, upload_id=uuid.UUID(path.rpartition("/")[2]))
    assert upload is not None
    key: BlobKey = upload.blob_key
    (blob_root / "incoming" / f"{key.incoming_name}.upload").write_bytes(b"short")
    assert code(await add(admin, path, 100, CONTENT[100:])) == (503, "storage_unavailable")
