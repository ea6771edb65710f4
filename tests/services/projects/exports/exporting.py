"""Making exports in tests, and checking what is in them."""

import hashlib
import io
import uuid
import zipfile
from typing import Any

import orjson
from sqlalchemy import func, select, update

from services.projects.exports.models import Export
from shared.tenancy import Database
from tests.services.projects.callers import Caller
from tests.support.polling import eventually

EXPORTS = "/v1/exports"


async def requested(caller: Caller, project_id: uuid.UUID | None = None) -> str:
    """The path of a new export."""
    body = {} if project_id is None else {"project_id": str(project_id)}
    answer = await caller("POST", EXPORTS, json=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"{EXPORTS}/{answer.json()['id']}"
    return str(answer.headers["location"])


async def ended(caller: Caller, path: str) -> dict[str, Any]:
    """The export once it is ready or failed."""
    last: dict[str, Any] = {}

    async def over() -> bool:
        nonlocal last
        answer = await caller("GET", path)
        assert answer.status_code == 200, answer.text
        last = answer.json()
        return last["status"] in ("ready", "failed")

    await eventually(over)
    return last


async def archive(caller: Caller, path: str) -> tuple[zipfile.ZipFile, dict[str, Any]]:
    """The archive of a finished export, whole and as its manifest says, and the manifest."""
    export = await ended(caller, path)
    assert export["status"] == "ready", export
    answer = await caller("GET", f"{path}/content")
    assert answer.status_code == 200, answer.text
    assert (len(answer.content), hashlib.sha256(answer.content).hexdigest()) == (export["size"], export["sha256"])
    return verified(answer.content)


def verified(content: bytes) -> tuple[zipfile.ZipFile, dict[str, Any]]:
    opened = zipfile.ZipFile(io.BytesIO(content))
    assert opened.testzip() is None
    names = opened.namelist()
    assert names[-1] == "manifest.json"
    assert len(names) == len(set(names))
    manifest: dict[str, Any] = orjson.loads(opened.read("manifest.json"))
    for project in manifest["projects"]:
        for document in project["documents"]:
            assert [version["version"] for version in document["versions"]] == [*range(1, document["version"] + 1)]
            for version in document["versions"]:
                data = opened.read(version["path"])
                assert (len(data), hashlib.sha256(data).hexdigest()) == (version["size"], version["sha256"])
    return opened, manifest


async def make_due(database: Database, path: str) -> None:
    """Whoever works on the export loses its claim, and the next attempt or removal begins at once."""
    export_id = uuid.UUID(path.rpartition("/")[2])
    async with database.system() as session:
        await session.execute(update(Export).where(Export.id == export_id).values(due_at=func.now()))


async def rows(database: Database, tenant_id: uuid.UUID) -> list[Export]:
    async with database.tenant(tenant_id) as session:
        return list(await session.scalars(select(Export)))
