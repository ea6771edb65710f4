"""Settings of the indexing service: `QUARRY_INDEXING_<NAME>`."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from shared.settings import DatabaseSettings


class IndexingSettings(DatabaseSettings):
    """`data_dir` holds the embedded vector store and files under way; `model_dir` caches the bundled embedder.

    A lease outlives its worker by at most `job_lease_seconds`; it is renewed three times as often.
    """

    service: ClassVar[str] = "indexing"

    projects_url: str
    data_dir: Path
    model_dir: Path
    job_concurrency: int = Field(default=4, ge=1, le=64)
    job_lease_seconds: float = Field(default=10.0, ge=0.5, le=600)
    job_max_attempts: int = Field(default=8, ge=1, le=100)
    embedding_threads: int = Field(default=2, ge=1, le=64)
    extraction_processes: int = Field(default=2, ge=1, le=64)
