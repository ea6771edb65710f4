"""Settings of the projects service."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from services.projects.tenants.service import Quotas
from shared.settings import DatabaseSettings

_MIB = 1024 * 1024


class ProjectsSettings(DatabaseSettings):
    """`blob_root`: folder of the documents' bytes, shared by all processes of the service. `tenant_*`: quotas per
    tenant. `export_*`: how many exports one process makes at a time, and how long each is kept."""

    service: ClassVar[str] = "projects"

    blob_root: Path
    max_document_bytes: int = Field(default=512 * _MIB, ge=1)
    tenant_projects: int = Field(default=10_000, ge=1)
    tenant_documents: int = Field(default=100_000, ge=1)
    tenant_bytes: int = Field(default=100 * 1024 * _MIB, ge=1)
    tenant_exports: int = Field(default=5, ge=1)
    tenant_exports_under_way: int = Field(default=1, ge=1)
    tenant_open_batches: int = Field(default=100, ge=1)
    export_workers: int = Field(default=2, ge=1, le=16)
    export_hours: float = Field(default=24.0, gt=0)
    blob_threads: int = Field(default=8, ge=1, le=64)
    cleaning_seconds: float = Field(default=2.0, gt=0)

    @property
    def quotas(self) -> Quotas:
        return Quotas(
            projects=self.tenant_projects,
            documents=self.tenant_documents,
            bytes=self.tenant_bytes,
            exports=self.tenant_exports,
            exports_under_way=self.tenant_exports_under_way,
            open_batches=self.tenant_open_batches,
        )
