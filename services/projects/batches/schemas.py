"""HTTP shapes of batches."""

import uuid
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field

from services.projects.batches.models import Batch
from shared.request_bodies import Input, one_line

Name = Annotated[str, Field(max_length=200), AfterValidator(one_line)]


class BatchCreate(Input):
    """`expected`: how many documents will be uploaded; the batch is closed when it has them."""

    name: Name = ""
    expected: int | None = Field(default=None, ge=1, le=1_000_000)


class BatchCounts(BaseModel):
    """Documents by status; `deleted` ones are counted there and no longer as what they were."""

    queued: int
    indexing: int
    indexed: int
    failed: int
    cancelled: int
    deleted: int
    total: int


class BatchOut(BaseModel):
    """`open` takes documents; `closed` takes none and has unfinished ones; `completed` is closed, and all of its
    documents have ended. It stays so if some are retried."""

    id: uuid.UUID
    project_id: uuid.UUID
    name: str
    status: Literal["open", "closed", "completed"]
    expected: int | None
    counts: BatchCounts
    created_by: uuid.UUID | None
    created_at: datetime
    closed_at: datetime | None
    cancelled_at: datetime | None
    completed_at: datetime | None

    @classmethod
    def of(cls, batch: Batch) -> Self:
        return cls(**_fields(batch))


class BatchCancelOut(BaseModel):
    """`affected`: documents that indexing was asked now to stop with; send `next_cursor` again for the others."""

    batch: BatchOut
    affected: int
    next_cursor: str | None


def _fields(batch: Batch) -> dict[str, object]:
    status = "completed" if batch.completed_at else "closed" if batch.closed_at else "open"
    names = ("id", "project_id", "name", "expected", "created_by", "created_at", "closed_at", "cancelled_at")
    counts = BatchCounts.model_validate(batch, from_attributes=True)
    facts = {name: getattr(batch, name) for name in (*names, "completed_at")}
    return {**facts, "status": status, "counts": counts}
