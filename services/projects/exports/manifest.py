"""The manifest of an export: everything but the bytes, as one JSON document, written while the archive grows.

`docs/exports.md` is the description of the format. Any change that readers of version 1 would not understand is another
`FORMAT_VERSION`.
"""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from services.projects.blobs.store import IncomingBlob
from services.projects.documents.models import Document
from services.projects.exports.archive import entry_path
from services.projects.exports.models import Export
from services.projects.projects.models import Project, ProjectMember
from services.projects.versions.models import DocumentVersion

FORMAT: Final = "quarry-export"
FORMAT_VERSION: Final = 1


class Manifest:
    """Written piece by piece: `begin`, then for each project `begin_project`, its documents and `end_project`, and
    `end`."""

    def __init__(self, blob: IncomingBlob) -> None:
        self._blob = blob
        self._separator = b""

    async def begin(self, export: Export) -> None:
        head = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "export_id": export.id,
            "tenant_id": export.tenant_id,
            "project_id": export.project_id,
            "requested_by": export.requested_by,
            "created_at": export.created_at,
        }
        await self._open(head, "projects")

    async def begin_project(self, project: Project, members: Sequence[ProjectMember]) -> None:
        described = {
            **_facts(project, "id", "name", "description"),
            "metadata": project.custom_metadata,
            **_facts(project, "created_at", "updated_at"),
            "members": [_facts(member, "user_id", "role", "created_at", "updated_at") for member in members],
        }
        await self._blob.write(self._separator)
        await self._open(described, "documents")

    async def document(self, document: Document, versions: Sequence[DocumentVersion]) -> None:
        described = {
            **_facts(document, "id", "name", "title"),
            "metadata": document.custom_metadata,
            **_facts(document, "version", "live_version", "status", "duplicate_of", "linked"),
            **_facts(document, "created_at", "updated_at", "indexed_at"),
            "versions": [_version(document, version) for version in versions],
        }
        await self._blob.write(self._separator + _json(described))
        self._separator = b",\n"

    async def end_project(self, skipped: Sequence[dict[str, Any]]) -> None:
        await self._close({"skipped": skipped})
        self._separator = b",\n"

    async def end(self, counts: dict[str, int]) -> None:
        await self._close({"counts": counts})

    async def _open(self, described: dict[str, Any], items: str) -> None:
        """All of an object but its last members, the first of which is a list."""
        await self._blob.write(_json(described)[:-1] + f',"{items}":[\n'.encode())
        self._separator = b""

    async def _close(self, rest: dict[str, Any]) -> None:
        await self._blob.write(b"]," + _json(rest)[1:])


def _version(document: Document, version: DocumentVersion) -> dict[str, Any]:
    path = entry_path(document.project_id, document.id, version.number, document.name)
    return {
        "version": version.number,
        "path": path,
        "size": version.size,
        "sha256": version.sha256,
        "content_type": version.declared_type,
        **_facts(version, "uploaded_by", "created_at"),
    }


def _facts(row: object, *names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _json(value: dict[str, Any]) -> bytes:
    # Ids from asyncpg are of a class of its own.
    return orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z)
