"""What takes long counts only if its caller may still do it when it ends."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from services.projects.documents.authority_watch import while_allowed
from shared.auth import Principal
from shared.errors import Forbidden, Unavailable
from shared.tenancy import Database
from tests.services.projects.blobs.files import blobs_of
from tests.services.projects.callers import Caller, announced, code
from tests.support.identity import IdentityDouble

Change = Callable[[Principal], Principal | None]


async def upload_until(caller: Caller, project_id: uuid.UUID, change: Callable[[], None]) -> httpx.Response:
    """An upload in the middle of which something changes."""

    async def body() -> AsyncIterator[bytes]:
        yield b"first half, "
        change()
        yield b"second half"

    return await caller("POST", f"/v1/projects/{project_id}/documents", params={"name": "slow.txt"}, content=body())


def member(principal: Principal) -> Principal:
    return replace(principal, tenant_role="member")


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (lambda principal: None, (401, "unauthenticated")),
        (member, (404, "not_found")),
        (lambda principal: replace(principal, limit=frozenset()), (404, "not_found")),
    ],
    ids=["credential gone", "no admin any more", "no scope any more"],
)
async def test_an_upload_does_not_outlive_its_authority(
    admin: Caller,
    tokens: IdentityDouble,
    database: Database,
    tenant_id: uuid.UUID,
    blob_root: Path,
    change: Change,
    refused: tuple[int, str],
) -> None:
    other = Caller(admin._client, tokens, tenant_id=tenant_id, tenant_role="owner")
    project_id = await other.create_project()
    credential_id = uuid.uuid4()
    caller = admin.limited(credential_id=credential_id)

    def changed() -> None:
        tokens.now[credential_id] = change(tokens.now[credential_id] or pytest.fail("no token was made"))

    assert code(await upload_until(caller, project_id, changed)) == refused
    assert len(await announced(database, tenant_id)) == 1
    assert blobs_of(blob_root, tenant_id) == []


async def test_an_editor_made_viewer_does_not_finish_its_upload(admin: Caller, project_id: uuid.UUID) -> None:
    editor = await admin.member(project_id, "editor")
    path = f"/v1/projects/{project_id}/members/{editor.user_id}"

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        assert (await admin("PUT", path, json={"role": "viewer"})).status_code == 200
        yield b"second"

    answer = await editor("POST", f"/v1/projects/{project_id}/documents", params={"name": "a"}, content=body())
    assert code(answer) == (403, "forbidden")


async def test_a_role_of_an_ended_membership_does_not_finish_an_upload(
    admin: Caller, tokens: IdentityDouble, project_id: uuid.UUID
) -> None:
    editor = await admin.member(project_id, "editor")
    credential_id = uuid.uuid4()

    def returned() -> None:
        principal = tokens.now[credential_id]
        assert principal is not None
        tokens.now[credential_id] = replace(principal, membership_number=2)

    answer = await upload_until(editor.limited(credential_id=credential_id), project_id, returned)
    assert code(answer) == (404, "not_found")


async def test_nothing_is_stored_while_identity_is_away(
    admin: Caller,
    tokens: IdentityDouble,
    database: Database,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    blob_root: Path,
) -> None:
    def away() -> None:
        tokens.away = True

    try:
        answer = await upload_until(admin, project_id, away)
    finally:
        tokens.away = False
    assert code(answer) == (503, "unavailable")
    assert len(await announced(database, tenant_id)) == 1
    assert blobs_of(blob_root, tenant_id) == []


async def test_a_document_that_is_being_read_ends_with_the_right_to_read_it() -> None:
    seen = 0

    async def refused() -> None:
        raise Forbidden

    async def endless() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)
            yield b"x"

    with pytest.raises(Forbidden):
        async for _ in while_allowed(endless(), refused, every=0.05):
            seen += 1
    assert seen


async def test_bytes_go_on_while_nobody_answers_but_not_for_ever() -> None:
    asked = 0

    async def silent() -> None:
        nonlocal asked
        asked += 1
        raise Unavailable

    async def endless() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)
            yield b"x"

    with pytest.raises(Unavailable):
        async for _ in while_allowed(endless(), silent, every=0.02, grace=0.1):
            pass
    assert asked > 1
