"""HTTP shapes of documents."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from services.projects.documents.bulk import MOST, BulkAction, Wanted
from services.projects.documents.errors import InvalidName
from services.projects.documents.models import Document, DocumentStatus
from services.projects.documents.names import MAX_SENT_NAME, clean_name, wanted_name
from services.projects.metadata import Metadata
from shared.request_bodies import Input, one_line


def _clean(value: str) -> str:
    try:
        return clean_name(value, cut=False)
    except InvalidName as error:
        raise ValueError(error.public_detail) from error


Name = Annotated[str, Field(min_length=1, max_length=MAX_SENT_NAME), AfterValidator(_clean)]


class DocumentPatch(Input):
    """Only the fields sent are changed; `metadata` is replaced as a whole. The defaults are never applied."""

    name: Name = ""
    metadata: Metadata = Field(default_factory=dict)


class BulkFilter(Input):
    """All that is given must match: one of the statuses, the name, the batch, all of `metadata`, nested as given."""

    status: Annotated[list[DocumentStatus], Field(min_length=1, max_length=5, fail_fast=True)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=MAX_SENT_NAME), AfterValidator(one_line)] | None = None
    batch_id: uuid.UUID | None = None
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _choose_something(self) -> Self:
        if not self.model_fields_set or all(getattr(self, name) is None for name in self.model_fields_set):
            raise ValueError("name at least one condition")
        return self

    def wanted(self) -> Wanted:
        # A name that no document can have matches none.
        name = None if self.name is None else wanted_name(self.name) or ""
        return Wanted(self.status, name, self.batch_id, self.metadata)


class BulkRequest(Input):
    """`limit`: of documents that are acted on."""

    action: BulkAction
    filter: BulkFilter
    limit: int = Field(default=100, ge=1, le=MOST)
    cursor: Annotated[str, Field(max_length=512)] | None = None


class BulkOut(BaseModel):
    """`affected`: documents that the action was possible for. Send `next_cursor` again while it is not null."""

    affected: int
    next_cursor: str | None


class DocumentError(BaseModel):
    """Why indexing failed: `code` for programs, `reason` for people."""

    code: str
    reason: str


class DocumentOut(BaseModel):
    """`size`, `sha256` and `content_type` are of the newest `version`, and so are `status` and `error`. `live_version`
    is the one that search finds, null if none: until a new version is indexed, and if that fails, it is an older one.

    `duplicate_of` is the oldest document of the project that had the same content when this one was uploaded. A
    `linked` document is found by search under that one, and not itself; its status is that one's.

    `title` is the one that the document gives itself, known once it is indexed. `partly_read` says why search does not
    find all that the document shows, null if nothing is known to be missing: `scanned_page`, `unreadable_page` or
    `undecodable_text` of a PDF, `damaged_slide`, `damaged_sheet`, `damaged_chapter`, `damaged_content`.
    """

    id: uuid.UUID
    project_id: uuid.UUID
    name: str
    title: str | None
    content_type: str
    size: int
    sha256: str
    version: int
    live_version: int | None
    status: DocumentStatus
    batch_id: uuid.UUID | None
    duplicate_of: uuid.UUID | None
    linked: bool
    metadata: dict[str, Any]
    error: DocumentError | None
    created_at: datetime
    indexed_at: datetime | None
    chunk_count: int | None
    partly_read: list[str] | None

    @classmethod
    def of(cls, document: Document) -> Self:
        error = None
        if document.error_code is not None and document.error_reason is not None:
            error = DocumentError(code=document.error_code, reason=document.error_reason)
        return cls(
            id=document.id,
            project_id=document.project_id,
            name=document.name,
            title=document.title,
            content_type=document.content_type,
            size=document.size,
            sha256=document.sha256,
            version=document.version,
            live_version=document.searched_version,
            status=document.status,
            batch_id=document.batch_id,
            duplicate_of=document.duplicate_of,
            linked=document.linked,
            metadata=document.custom_metadata,
            error=error,
            created_at=document.created_at,
            indexed_at=document.indexed_at,
            chunk_count=document.chunk_count,
            partly_read=document.partly_read,
        )
