"""The list of a document's chunks: what is in it, in which order, and who may read it."""

import base64
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import update

from services.indexing.documents import repository
from services.indexing.documents.listed_chunks import Position
from services.indexing.documents.models import Chunk, Document
from shared.auth import ALL_SCOPES, Scope
from shared.pagination import encode_cursor
from shared.tenancy import Database
from tests.services.indexing.uploads import Library
from tests.support.identity import IdentityDouble

Listed = Callable[..., Awaitable[httpx.Response]]
SENTENCES = [f"Block {number} — cut from the eastern face." for number in range(5)]
TEXT = "\n\n".join(SENTENCES)


@pytest.fixture
def listed(client: httpx.AsyncClient, tokens: IdentityDouble, library: Library) -> Listed:
    """A page of the chunks of a document, as the owner of its tenant, or as `caller` says."""

    async def ask(
        document_id: uuid.UUID, *, caller: dict[str, object] | None = None, at: Library = library, **query: Any
    ) -> httpx.Response:
        who: dict[str, object] = {"tenant_id": library.tenant_id, "user_id": uuid.uuid4(), "scopes": ALL_SCOPES}
        return await client.get(
            f"/v1/projects/{at.project_id}/documents/{document_id}/chunks",
            params=query,
            headers=tokens.headers("indexing", **{**who, **(caller or {})}),
        )

    return ask


async def stored(library: Library, *, version: int = 1, document_id: uuid.UUID | None = None) -> uuid.UUID:
    """A document whose version is live, with a chunk for each sentence."""
    document_id = document_id or uuid.uuid4()
    async with library.database.tenant(library.tenant_id) as session:
        await repository.upsert_from_event(
            session,
            document_id=document_id,
            project_id=library.project_id,
            version=version,
            name="yard.txt",
            content_type="text/plain",
            metadata={},
            sequence=version,
            created_at=datetime.now(UTC),
        )
        rows = [
            {
                **{"project_id": library.project_id, "document_id": document_id, "version": version},
                **{"chunk_index": index, "text": sentence, "page": 3, "location": {"page": 3, "headings": ["Yard"]}},
                **{"start_offset": TEXT.index(sentence), "end_offset": TEXT.index(sentence) + len(sentence)},
            }
            for index, sentence in enumerate(SENTENCES)
        ]
        await repository.add_chunks(session, rows)
        await session.execute(update(Document).where(Document.document_id == document_id).values(live_version=version))
    return document_id


async def test_chunks_are_listed_in_the_order_of_the_text(listed: Listed, library: Library) -> None:
    document_id = await stored(library)
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while cursor is not None or not items:
        page = (await listed(document_id, limit=2, **({"cursor": cursor} if cursor else {}))).json()
        items += page["items"]
        cursor = page["next_cursor"]
    assert [item["text"] for item in items] == SENTENCES
    assert [item["chunk_index"] for item in items] == [0, 1, 2, 3, 4]
    assert all(TEXT[item["start"] : item["end"]] == item["text"] for item in items)
    assert items[1] == {
        "version": 1, "chunk_index": 1, "start": items[1]["start"], "end": items[1]["end"], "text": SENTENCES[1],
        "page": 3, "location": {"page": 3, "headings": ["Yard"]},
    }  # fmt: skip
    whole = (await listed(document_id)).json()
    assert (whole["items"], whole["next_cursor"]) == (items, None)


async def test_a_chunk_of_before_says_its_page(listed: Listed, library: Library, database: Database) -> None:
    document_id = await stored(library)
    async with database.tenant(library.tenant_id) as session:
        await session.execute(update(Chunk).values(location=None))
    (item,) = (await listed(document_id, limit=1)).json()["items"]
    assert (item["page"], item["location"]) == (3, {"page": 3})


async def test_a_list_is_never_of_two_versions(listed: Listed, library: Library) -> None:
    document_id = await stored(library)
    cursor = (await listed(document_id, limit=2)).json()["next_cursor"]
    await stored(library, version=2, document_id=document_id)
    answer = await listed(document_id, limit=2, cursor=cursor)
    assert (answer.status_code, answer.json()["code"]) == (409, "version_replaced")
    shown = (await listed(document_id)).json()["items"]
    assert [(item["version"], item["text"]) for item in shown] == [(2, sentence) for sentence in SENTENCES]


async def test_a_version_that_is_not_live_is_not_listed(listed: Listed, library: Library, database: Database) -> None:
    document_id = await stored(library)
    async with database.tenant(library.tenant_id) as session:
        await session.execute(update(Document).values(live_version=None))
    answer = await listed(document_id)
    assert (answer.status_code, answer.json()) == (200, {"items": [], "next_cursor": None})


async def test_a_deleted_document_is_gone_at_once(listed: Listed, library: Library) -> None:
    document_id = await stored(library)
    cursor = (await listed(document_id, limit=2)).json()["next_cursor"]
    await library.delete(document_id)
    for query in ({}, {"cursor": cursor}):
        answer = await listed(document_id, **query)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_document_whose_upload_was_not_heard_of_yet_exists(listed: Listed, library: Library) -> None:
    document_id = uuid.uuid4()
    assert (await listed(document_id)).status_code == 404
    library.projects.content[document_id, 1] = b"uploaded a moment ago"
    answer = await listed(document_id)
    assert (answer.status_code, answer.json()) == (200, {"items": [], "next_cursor": None})
    library.projects.broken[document_id] = 503
    assert (await listed(document_id)).status_code == 503


async def test_who_may_not_read_learns_nothing(listed: Listed, library: Library, other_library: Library) -> None:
    document_id = await stored(library)
    viewer, stranger = uuid.uuid4(), uuid.uuid4()
    library.projects.access[library.project_id] = {viewer: "viewer"}
    member = {"tenant_role": "member"}
    assert (await listed(document_id, caller={**member, "user_id": viewer})).status_code == 200
    for caller, status in (
        ({**member, "user_id": stranger}, 404),
        ({**member, "user_id": viewer, "scopes": [Scope.SEARCH]}, 403),
        ({"tenant_id": other_library.tenant_id}, 404),
    ):
        answer = await listed(document_id, caller=caller)
        assert answer.status_code == status, answer.text
        assert SENTENCES[0] not in answer.text
        if status == 404:
            absent = await listed(uuid.uuid4(), caller=caller)
            assert {**answer.json(), "request_id": "", "instance": ""} == {
                **absent.json(), "request_id": "", "instance": "",
            }  # fmt: skip


async def test_a_document_of_another_project_is_not_found(listed: Listed, library: Library) -> None:
    elsewhere = Library(library.database, library.projects, library.tenant_id)
    document_id = await stored(elsewhere)
    assert (await listed(document_id)).status_code == 404
    assert (await listed(document_id, at=elsewhere)).status_code == 200


DOCUMENT = uuid.UUID(int=7)


def made(*content: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "W10",
        "A" * 512,
        made(1, 1),
        made(str(DOCUMENT), 1),
        made(str(DOCUMENT), 0, 1),
        made(str(DOCUMENT), 1, -1),
        made(str(DOCUMENT), 2**31, 1),
        made(str(DOCUMENT), "1", 1),
        Position(uuid.UUID(int=8), 1, 1).encode(),
        encode_cursor(datetime(2026, 1, 1, tzinfo=UTC), DOCUMENT),
    ],
)
async def test_a_cursor_of_something_else_is_refused(listed: Listed, cursor: str) -> None:
    answer = await listed(DOCUMENT, cursor=cursor)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


def test_a_cursor_is_read_as_it_was_made() -> None:
    position = Position(DOCUMENT, 7, 0)
    assert Position.decode(position.encode(), DOCUMENT) == position
