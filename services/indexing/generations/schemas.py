"""HTTP shapes of generations."""

from datetime import datetime

from pydantic import BaseModel

from services.indexing.generations.models import State


class GenerationProgress(BaseModel):
    """Chunks that have points, and all chunks; `total` is null until they were counted."""

    done: int
    total: int | None
    percent: int


class GenerationOut(BaseModel):
    """What a project's points were made with. Search reads the `active` one; one that is `building` becomes active once
    it is complete; one that is `kept` can be returned to until `kept_until`.

    `error` is why building or comparing makes no progress at the moment. `checked_at` is when the points were last
    compared with the chunks.
    """

    generation: int
    state: State
    embedder: str
    dimensions: int
    analyzer: str
    progress: GenerationProgress
    error: str | None
    created_at: datetime
    activated_at: datetime | None
    kept_until: datetime | None
    checked_at: datetime | None


class Generations(BaseModel):
    """Newest first; a few at most."""

    items: list[GenerationOut]
