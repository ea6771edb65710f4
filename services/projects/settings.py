"""Settings of the projects service."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from shared.settings import DatabaseSettings

_MIB = 1024 * 1024


class ProjectsSettings(DatabaseSettings):
    """`blob_root`: folder of the documents' bytes, shared by all processes of the service."""

    service: ClassVar[str] = "projects"

    blob_root: Path
    max_document_bytes: int = Field(default=512 * _MIB, ge=1)
    blob_threads: int = Field(default=8, ge=1, le=64)
    cleaning_seconds: float = Field(default=2.0, gt=0)
