"""What is in an export, and what clients see of it."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.projects.documents.authority_watch import Check
from services.projects.exports import service
from shared.auth import ALL_SCOPES, Scope
from shared.errors import NotFound
from tests.services.projects.callers import Caller, code
from tests.services.projects.exports.exporting import EXPORTS, archive, ended, requested


async def test_an_export_has_every_version_and_what_is_known_of_it(admin: Caller, project_id: uuid.UUID) -> None:
    described = {"description": "All of them", "metadata": {"lang": "de"}}
    changed = await admin("PATCH", f"/v1/projects/{project_id}", json=described, headers={"If-Match": "*"})
    assert changed.status_code == 200
    editor = await admin.member(project_id, "editor")
    first = await editor.uploaded(project_id, b"one", name="größe.txt", metadata='{"n": 1}')
    path = f"/v1/projects/{project_id}/documents/{first['id']}"
    assert (await admin("POST", f"{path}/versions", content=b"two")).status_code == 201
    assert (await admin("POST", f"{path}/versions/1/restore")).status_code == 201
    second = await admin.uploaded(project_id, b"one", name="größe.txt", duplicates="link")

    opened, manifest = await archive(admin, await requested(admin, project_id))

    assert (manifest["format"], manifest["format_version"]) == ("quarry-export", 1)
    assert (manifest["project_id"], manifest["requested_by"]) == (str(project_id), str(admin.user_id))
    assert manifest["counts"] == {"documents": 2, "bytes": 12}
    (project,) = manifest["projects"]
    assert (project["name"], project["description"], project["metadata"]) == ("Papers", "All of them", {"lang": "de"})
    assert {member["user_id"]: member["role"] for member in project["members"]} == {
        str(admin.user_id): "owner",
        str(editor.user_id): "editor",
    }
    assert project["skipped"] == []
    documents = {document["id"]: document for document in project["documents"]}
    assert documents.keys() == {first["id"], second["id"]}
    exported = documents[first["id"]]
    assert (exported["name"], exported["metadata"], exported["version"]) == ("größe.txt", {"n": 1}, 3)
    assert [opened.read(version["path"]) for version in exported["versions"]] == [b"one", b"two", b"one"]
    uploaders = [version["uploaded_by"] for version in exported["versions"]]
    assert uploaders == [str(user) for user in (editor.user_id, admin.user_id, admin.user_id)]
    assert exported["versions"][0]["content_type"] == "text/plain"
    assert documents[second["id"]]["linked"] == (documents[second["id"]]["duplicate_of"] == first["id"])
    assert all(name.endswith("/größe.txt") for name in opened.namelist()[:-1])
    flags = {info.flag_bits & 0x800 for info in opened.infolist()[:-1]}
    assert flags == {0x800}, "names are said to be UTF-8"


async def test_many_documents_are_as_their_manifest_says(admin: Caller, project_id: uuid.UUID) -> None:
    contents = [uuid.uuid4().bytes * (1 + number * number) for number in range(100)]
    contents.append(bytes(3_000_000))
    places = asyncio.Semaphore(8)

    async def upload(content: bytes) -> None:
        async with places:
            await admin.uploaded(project_id, content)

    await asyncio.gather(*map(upload, contents))
    path = await requested(admin, project_id)
    _, manifest = await archive(admin, path)
    assert len(manifest["projects"][0]["documents"]) == len(contents)
    progress = (await admin("GET", path)).json()["progress"]
    assert progress == {
        "documents_done": len(contents), "documents_total": len(contents), "documents_skipped": 0,
        "bytes_done": sum(map(len, contents)), "bytes_total": sum(map(len, contents)),
    }  # fmt: skip


async def test_an_export_of_the_tenant_has_all_its_projects(
    admin: Caller, outsider: Caller, project_id: uuid.UUID
) -> None:
    elsewhere, deleted, empty = [await admin.create_project(name=name) for name in ("Elsewhere", "Gone", "Empty")]
    for project in (project_id, elsewhere, deleted):
        await admin.uploaded(project)
    await outsider.uploaded(await outsider.create_project())
    assert (await admin("DELETE", f"/v1/projects/{deleted}", headers={"If-Match": "*"})).status_code == 204
    _, manifest = await archive(admin, await requested(admin))
    assert manifest["project_id"] is None
    assert {project["id"]: len(project["documents"]) for project in manifest["projects"]} == {
        str(project_id): 1, str(elsewhere): 1, str(empty): 0,
    }  # fmt: skip
    assert [project["skipped"] for project in manifest["projects"]] == [[], [], []]


async def test_exports_of_one_project_have_no_other(admin: Caller, project_id: uuid.UUID) -> None:
    await admin.uploaded(await admin.create_project(name="Elsewhere"))
    document = await admin.uploaded(project_id)
    _, manifest = await archive(admin, await requested(admin, project_id))
    assert [project["id"] for project in manifest["projects"]] == [str(project_id)]
    assert [item["id"] for item in manifest["projects"][0]["documents"]] == [document["id"]]


async def test_a_download_that_was_cut_off_is_resumed(admin: Caller, project_id: uuid.UUID) -> None:
    await admin.uploaded(project_id, bytes(700_000))
    path = await requested(admin, project_id)
    export = await ended(admin, path)
    whole = await admin("GET", f"{path}/content")
    assert whole.headers["content-type"] == "application/zip"
    assert whole.headers["content-disposition"].startswith(f'attachment; filename="quarry-project-{project_id}-')
    tag = whole.headers["etag"]
    assert tag == f'"{export["sha256"]}"'
    cut = whole.content[:400_001]
    rest = await admin("GET", f"{path}/content", headers={"Range": f"bytes={len(cut)}-", "If-Range": tag})
    assert rest.status_code == 206
    assert rest.headers["content-range"] == f"bytes {len(cut)}-{export['size'] - 1}/{export['size']}"
    assert cut + rest.content == whole.content
    assert (await admin("GET", f"{path}/content", headers={"If-None-Match": tag})).status_code == 304


async def test_polling_costs_nothing_while_nothing_changes(admin: Caller, project_id: uuid.UUID) -> None:
    path = await requested(admin, project_id)
    await ended(admin, path)
    answer = await admin("GET", path)
    again = await admin("GET", path, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


# --- who may ----------------------------------------------------------------------------------------------------------


async def test_exports_are_for_who_may_administer_and_read_all_of_it(
    admin: Caller, outsider: Caller, project_id: uuid.UUID
) -> None:
    paths = []
    for project in (project_id, None):
        paths.append(await requested(admin, project))
        await ended(admin, paths[-1])
    owner = await admin.member(project_id, "owner")
    elsewhere = await admin.create_project()
    callers = {
        "owner": owner,
        "viewer": await admin.member(project_id, "viewer"),
        "editor": await admin.member(project_id, "editor"),
        "owner elsewhere": await admin.member(elsewhere, "owner"),
        "outsider": outsider,
        "tied elsewhere": admin.limited(project_id=elsewhere),
        "tied here": admin.limited(project_id=project_id),
        **{f"without {scope}": admin.limited(scopes=ALL_SCOPES - {scope}) for scope in (
            Scope.PROJECTS_WRITE, Scope.DOCUMENTS_READ, Scope.TENANT_ADMIN,
        )},
    }  # fmt: skip
    may: dict[str, tuple[bool, bool]] = {
        "owner": (True, False),
        "tied here": (True, False),
        f"without {Scope.TENANT_ADMIN}": (True, False),
        f"without {Scope.PROJECTS_WRITE}": (False, True),
    }
    for name, caller in callers.items():
        allowed = may.get(name, (False, False))
        listed = await caller("GET", EXPORTS)
        if name == f"without {Scope.DOCUMENTS_READ}":
            assert code(listed) == (403, "forbidden")
        else:
            shown = {f"{EXPORTS}/{item['id']}" for item in listed.json()["items"]}
            assert shown == {path for path, yes in zip(paths, allowed, strict=True) if yes}, name
        for path, yes in zip(paths, allowed, strict=True):
            for route in (path, f"{path}/content"):
                answer = await caller("GET", route)
                assert yes == (answer.status_code == 200), (name, route)
                assert yes or code(answer) == (404, "not_found")
            if not yes:
                assert code(await caller("DELETE", path)) == (404, "not_found"), name


@pytest.mark.parametrize(
    ("who", "project", "refused"),
    [
        ("viewer", True, (403, "forbidden")),
        ("editor", True, (403, "forbidden")),
        ("stranger", True, (404, "not_found")),
        ("outsider", True, (404, "not_found")),
        ("owner", False, (403, "forbidden")),
        ("tied", False, (403, "forbidden")),
        ("without documents:read", True, (403, "forbidden")),
        ("without documents:read", False, (403, "forbidden")),
        ("without tenant:admin", False, (403, "forbidden")),
        ("without projects:write", True, (403, "forbidden")),
    ],
)
async def test_who_may_not_export_is_refused(
    admin: Caller, outsider: Caller, project_id: uuid.UUID, who: str, project: bool, refused: tuple[int, str]
) -> None:
    if who in ("viewer", "editor", "owner"):
        caller = await admin.member(project_id, who)  # type: ignore[arg-type]
    elif who.startswith("without"):
        caller = admin.limited(scopes=ALL_SCOPES - {Scope(who.partition(" ")[2])})
    else:
        named = {"outsider": outsider, "tied": admin.limited(project_id=project_id)}
        caller = named.get(who) or await admin.member(project_id, None)
    body = {"project_id": str(project_id)} if project else {}
    assert code(await caller("POST", EXPORTS, json=body)) == refused


async def test_who_has_lost_the_project_cannot_download(admin: Caller, project_id: uuid.UUID) -> None:
    owner = await admin.member(project_id, "owner")
    path = await requested(owner, project_id)
    await ended(owner, path)
    assert (await owner("GET", f"{path}/content")).status_code == 200
    assert (await admin("DELETE", f"/v1/projects/{project_id}/members/{owner.user_id}")).status_code == 204
    for answer in (await owner("GET", path), await owner("GET", f"{path}/content")):
        assert code(answer) == (404, "not_found")
    assert (await admin("GET", f"{path}/content")).status_code == 200


async def test_a_long_download_ends_with_the_right_to_it(
    admin: Caller, project_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[Check] = []

    def watched(chunks: AsyncIterator[bytes], check: Check) -> AsyncIterator[bytes]:
        checks.append(check)
        return chunks

    monkeypatch.setattr(service, "while_allowed", watched)
    path = await requested(admin, project_id)
    await ended(admin, path)
    assert (await admin("GET", f"{path}/content")).status_code == 200
    (check,) = checks
    await check()
    assert (await admin("DELETE", path)).status_code == 204
    with pytest.raises(NotFound):
        await check()


async def test_so_many_exports_of_a_tenant(
    admin: Caller, outsider: Caller, project_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = []
    for _ in range(5):
        paths.append(await requested(admin, project_id))
        await ended(admin, paths[-1])
    refused = await admin("POST", EXPORTS, json={})
    assert code(refused) == (403, "quota_exceeded")
    assert (refused.json()["quota"], refused.json()["limit"], refused.json()["used"]) == ("exports", 5, 5)
    await ended(outsider, await requested(outsider))
    assert (await admin("DELETE", paths[0])).status_code == 204
    await ended(admin, await requested(admin))


@pytest.mark.parametrize("body", [{"project_id": "x"}, {"project": str(uuid.uuid4())}, {"tenant_id": "x"}, []])
async def test_other_bodies_are_refused(admin: Caller, body: Any) -> None:
    assert code(await admin("POST", EXPORTS, json=body)) == (422, "validation_failed")


async def test_no_body_is_the_whole_tenant(admin: Caller) -> None:
    answer = await admin("POST", EXPORTS)
    assert (answer.status_code, answer.json()["project_id"]) == (202, None)
    assert answer.json()["status"] == "queued"
    await ended(admin, answer.headers["Location"])
