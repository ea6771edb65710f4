"""A search that waits until its client's own upload, change or deletion is what search sees."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from services.indexing.documents import arrivals
from services.indexing.search import progress, read_after
from services.indexing.search.dependencies import SearchResources
from services.indexing.search.read_after import Waiting
from tests.services.indexing.jobs.test_worker import ends
from tests.services.indexing.search.conftest import Search
from tests.services.indexing.uploads import Library
from tests.support.polling import eventually
from tests.support.serving import StartedApp

Running = tuple[StartedApp, httpx.AsyncClient]
GRANITE = "Granite from the eastern face of the quarry built the harbour wall."


@pytest.fixture
def waiting(running: Running) -> Waiting:
    return running[0].resources(SearchResources).search.waiting


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "WAIT_SECONDS", 0.05)


@asynccontextmanager
async def searching(search: Search, library: Library, waiting: Waiting, after: Any) -> AsyncIterator[Any]:
    """A search that waits for `after` when the block begins."""
    before = waiting._held[library.tenant_id]
    task = asyncio.ensure_future(search(library, "granite", mode="keyword", read_after=after))

    async def waits() -> bool:
        return waiting._held[library.tenant_id] == before + 1

    try:
        await eventually(waits)
        yield task
    finally:
        task.cancel()


def outcome(answer: httpx.Response) -> tuple[list[str], bool, list[str]]:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return [item["document_name"] for item in body["items"]], body["partial"], body["partial_reasons"]


async def test_an_upload_is_found_by_the_search_that_waits_for_it(
    search: Search, library: Library, waiting: Waiting
) -> None:
    document_id = uuid.uuid4()
    # Begun before indexing has even heard of the upload.
    async with asyncio.timeout(20), searching(search, library, waiting, str(document_id)) as task:
        await library.upload(GRANITE, document_id=document_id, name="granite.txt")
        assert outcome(await task) == (["granite.txt"], False, [])
    assert (waiting._waiting, waiting._held) == ({}, {})


async def test_a_version_is_waited_for_although_one_before_it_is_searchable(
    search: Search, library: Library, waiting: Waiting
) -> None:
    document_id = await library.upload("Something else.", name="first.txt")
    await ends(library, document_id)
    assert outcome(await search(library, "granite", mode="keyword", read_after=str(document_id))) == ([], False, [])
    second = {"document_id": str(document_id), "version": 2}
    async with asyncio.timeout(20), searching(search, library, waiting, second) as task:
        await library.upload(GRANITE, document_id=document_id, version=2, sequence=2, name="second.txt")
        assert outcome(await task) == (["second.txt"], False, [])


async def test_a_change_is_waited_for_until_filters_see_it(search: Search, library: Library) -> None:
    document_id = await library.upload(GRANITE, metadata={"lang": "en"})
    await ends(library, document_id)
    for sequence in range(2, 6):
        await library.update(document_id, sequence=sequence, name="note.txt", metadata={"n": sequence})
        only = {"field": "metadata.n", "eq": sequence}
        answer = await search(library, "granite", filter=only, read_after=str(document_id))
        assert outcome(answer) == (["note.txt"], False, [])


async def test_what_is_deleted_or_failed_is_not_waited_for(search: Search, library: Library) -> None:
    deleted = await library.upload(GRANITE)
    await ends(library, deleted)
    await library.delete(deleted)
    failed = await library.upload(b"%PDF-1.7 nothing", content_type="application/pdf")
    assert await ends(library, failed) == "failed"
    assert outcome(await search(library, "granite", read_after=str(deleted))) == ([], False, [])
    assert outcome(await search(library, "granite", read_after=str(failed))) == ([], True, ["upload_failed"])


async def test_a_search_that_waits_is_told_of_a_deletion_and_of_a_cancellation(
    search: Search, library: Library, waiting: Waiting
) -> None:
    cancelled, deleted = uuid.uuid4(), uuid.uuid4()
    async with asyncio.timeout(20), searching(search, library, waiting, str(deleted)) as task:
        await library.delete(deleted)
        assert outcome(await task) == ([], False, [])
    async with asyncio.timeout(20), searching(search, library, waiting, str(cancelled)) as task:
        # The cancellation overtakes its upload.
        await library.cancel(cancelled, sequence=2)
        await library.upload(GRANITE, document_id=cancelled)
        assert outcome(await task)[1:] == (True, ["upload_failed"])


@pytest.mark.usefixtures("impatient")
async def test_another_tenants_or_projects_document_is_as_one_that_does_not_exist(
    search: Search, library: Library, other_library: Library
) -> None:
    foreign = await other_library.upload(GRANITE, name="foreign.txt")
    elsewhere = Library(library.database, library.projects, library.tenant_id)
    own = await elsewhere.upload(GRANITE, name="elsewhere.txt")
    assert [await ends(other_library, foreign), await ends(elsewhere, own)] == ["indexed", "indexed"]
    answers = [
        outcome(await search(library, "granite", read_after=str(document_id)))
        for document_id in (foreign, own, uuid.uuid4())
    ]
    assert answers == [([], True, ["upload_awaited"])] * 3


@pytest.mark.usefixtures("impatient")
async def test_a_search_that_has_waited_long_enough_answers_with_what_there_is(
    search: Search, library: Library
) -> None:
    document_id = await library.upload(GRANITE, name="granite.txt")
    await ends(library, document_id)
    third = {"document_id": str(document_id), "version": 3}
    assert outcome(await search(library, "granite", read_after=third)) == (["granite.txt"], True, ["upload_awaited"])


async def test_the_clients_own_time_limits_the_wait(
    search: Search, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "WAIT_SECONDS", 600.0)
    monkeypatch.setattr(progress, "_WAITING", 0.01)
    answer = await search(library, "granite", mode="keyword", read_after=str(uuid.uuid4()), timeout_ms=10_000)
    assert outcome(answer) == ([], True, ["upload_awaited"])


async def test_places_to_wait_are_few_for_each_tenant(
    search: Search, library: Library, other_library: Library, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_after, "EACH", 1)
    async with searching(search, library, waiting, str(uuid.uuid4())):
        refused = await search(library, "granite", read_after=str(uuid.uuid4()))
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_searches")
        # Who does not wait is not refused, nor is another tenant.
        assert (await search(library, "granite", mode="keyword")).status_code == 200
        async with searching(search, other_library, waiting, str(uuid.uuid4())):
            monkeypatch.setattr(read_after, "IN_ALL", 2)
            third = Library(library.database, library.projects, uuid.uuid4())
            assert (await search(third, "granite", read_after=str(uuid.uuid4()))).status_code == 503


async def test_what_was_missed_while_not_connected_is_looked_for_again(
    search: Search, library: Library, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = uuid.uuid4()
    monkeypatch.setattr(arrivals, "announce", lambda session, document_id: None)
    async with asyncio.timeout(20), searching(search, library, waiting, str(document_id)) as task:
        await library.upload(GRANITE, document_id=document_id, name="granite.txt")
        await ends(library, document_id)
        assert not task.done()
        waiting._on_notification("")
        assert outcome(await task) == (["granite.txt"], False, [])


@pytest.mark.parametrize(
    "value", ["x", 7, {"document_id": str(uuid.uuid4())}, {"document_id": str(uuid.uuid4()), "version": 0}]
)
async def test_what_names_no_upload_is_refused(search: Search, library: Library, value: Any) -> None:
    assert (await search(library, "x", read_after=value)).status_code == 422


async def test_who_may_not_search_does_not_wait(search: Search, library: Library, waiting: Waiting) -> None:
    stranger = {"user_id": uuid.uuid4(), "tenant_role": "member"}
    answer = await search(library, "x", caller=stranger, read_after=str(uuid.uuid4()))
    assert (answer.status_code, waiting._held) == (404, {})
