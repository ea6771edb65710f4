"""HTTP shapes of exports."""

import uuid
from datetime import datetime
from typing import Literal, Self, cast

from pydantic import BaseModel

from services.projects.exports.models import Export
from shared.request_bodies import Input


class ExportCreate(Input):
    """`project_id` null or left out: all projects of the tenant."""

    project_id: uuid.UUID | None = None


class ExportProgress(BaseModel):
    """`bytes_*` are of all versions of the documents. Documents deleted meanwhile are `documents_skipped`."""

    documents_done: int
    documents_total: int
    documents_skipped: int
    bytes_done: int
    bytes_total: int


class ExportError(BaseModel):
    code: str


class ExportOut(BaseModel):
    """`size` and `sha256` are those of the archive, once it is `ready`. It is removed at `expires_at`."""

    id: uuid.UUID
    project_id: uuid.UUID | None
    status: Literal["queued", "running", "ready", "failed"]
    progress: ExportProgress
    size: int | None
    sha256: str | None
    error: ExportError | None
    requested_by: uuid.UUID | None
    created_at: datetime
    finished_at: datetime | None
    expires_at: datetime | None

    @classmethod
    def of(cls, export: Export) -> Self:
        return cls(
            id=export.id,
            project_id=export.project_id,
            status=cast("Literal['queued', 'running', 'ready', 'failed']", export.status),
            progress=ExportProgress.model_validate(export, from_attributes=True),
            size=export.size,
            sha256=export.sha256,
            error=None if export.error_code is None else ExportError(code=export.error_code),
            requested_by=export.requested_by,
            created_at=export.created_at,
            finished_at=export.finished_at,
            expires_at=export.expires_at,
        )
