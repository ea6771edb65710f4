"""Guards of projects that no other test would miss if they were gone; see `tests/isolation/mutations`."""

import uuid

import pytest

from tests.services.projects.callers import Caller, code


async def test_lists_and_duplicates_stay_within_a_project(admin: Caller, project_id: uuid.UUID) -> None:
    """A list of another project of the same tenant shows nothing, and the same content there is new content."""
    content = uuid.uuid4().bytes
    elsewhere = await admin.create_project(name="Elsewhere")
    first = await admin.uploaded(project_id, content)
    assert (await admin("GET", f"/v1/projects/{elsewhere}/documents")).json()["items"] == []
    second = await admin.upload(elsewhere, content, duplicates="reject")
    assert second.status_code == 201, second.text
    assert first["id"] not in second.text
    listed = (await admin("GET", f"/v1/projects/{elsewhere}/documents")).json()["items"]
    assert [document["id"] for document in listed] == [second.json()["id"]]


async def test_versions_and_links_stay_within_a_project(admin: Caller, project_id: uuid.UUID) -> None:
    """The name and the content of a document of another project of the tenant are new here."""
    content = uuid.uuid4().bytes
    first = await admin.uploaded(project_id, content)
    elsewhere = await admin.create_project(name="Elsewhere")
    for made in (
        await admin.uploaded(elsewhere, content, duplicates="link"),
        await admin.uploaded(await admin.create_project(), content, duplicates="new_version"),
        await admin.uploaded(await admin.create_project(), uuid.uuid4().bytes, duplicates="new_version"),
    ):
        assert (made["id"] == first["id"], made["version"], made["duplicate_of"], made["linked"]) == (
            False, 1, None, False,
        )  # fmt: skip


async def test_the_same_content_of_another_tenant_is_nothing_one_is_told_of(
    admin: Caller, outsider: Caller, project_id: uuid.UUID
) -> None:
    content = uuid.uuid4().bytes
    stored = await admin.uploaded(project_id, content)
    own = await outsider.create_project()
    answer = await outsider.upload(own, content, duplicates="reject")
    assert answer.status_code == 201
    assert stored["id"] not in answer.text


@pytest.mark.parametrize("limit", ["0", "-1", "201", "1000000000", "9" * 40, "1.5", "NaN", "all", ""])
async def test_pages_are_bounded(admin: Caller, project_id: uuid.UUID, limit: str) -> None:
    for path in ("/v1/projects", f"/v1/projects/{project_id}/documents", f"/v1/projects/{project_id}/members"):
        answer = await admin("GET", path, params={"limit": limit})
        assert code(answer) == (422, "validation_failed"), path
