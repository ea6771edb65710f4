"""HTTP shapes of versions."""

import uuid
from datetime import datetime
from typing import Self

from pydantic import BaseModel

from services.projects.versions.models import DocumentVersion


class VersionOut(BaseModel):
    """One version of a document's content. `uploaded_by` is null if no user's request brought it, or if that was not
    recorded yet."""

    version: int
    content_type: str
    size: int
    sha256: str
    uploaded_by: uuid.UUID | None
    created_at: datetime

    @classmethod
    def of(cls, version: DocumentVersion) -> Self:
        return cls(
            version=version.number,
            content_type=version.content_type,
            size=version.size,
            sha256=version.sha256,
            uploaded_by=version.uploaded_by,
            created_at=version.created_at,
        )
