"""HTTP shapes of resumable uploads."""

import uuid
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel

from services.projects.documents.upload import DuplicatesPolicy
from services.projects.uploads.models import Upload


class UploadOut(BaseModel):
    """`offset` is how many bytes are there, of `length`, which is null as long as the client has not said it.
    `document_id` is the document that the finished upload became, or a version of. The upload is forgotten at
    `expires_at`, and its bytes are removed then if it is not finished."""

    id: uuid.UUID
    project_id: uuid.UUID
    name: str
    content_type: str
    metadata: dict[str, Any]
    duplicates: DuplicatesPolicy | None
    length: int | None
    offset: int
    document_id: uuid.UUID | None
    created_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, upload: Upload) -> Self:
        return cls(
            id=upload.id,
            project_id=upload.project_id,
            name=upload.name,
            content_type=upload.declared_type.partition(";")[0],
            metadata=upload.custom_metadata or {},
            duplicates=upload.duplicates,
            length=upload.length,
            offset=upload.received,
            document_id=upload.document_id,
            created_at=upload.created_at,
            expires_at=upload.expires_at,
        )
