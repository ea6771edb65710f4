"""Settings of the projects service."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from services.projects.tenants.service import Quotas
from shared.settings import DatabaseSettings

_MIB = 1024 * 1024


class ProjectsSettings(DatabaseSettings):
    """`blob_root`: folder of the documents' bytes, shared by all processes of the service. `tenant_*`: quotas per
    tenant, `tenant_uploads` of unfinished resumable uploads, which expire `upload_expiry_seconds` after their last
    progress."""

    service: ClassVar[str] = "projects"

    blob_root: Path
    max_document_bytes: int = Field(default=512 * _MIB, ge=1)
    tenant_projects: int = Field(default=10_000, ge=1)
    tenant_documents: int = Field(default=100_000, ge=1)
    tenant_bytes: int = Field(default=100 * 1024 * _MIB, ge=1)
    tenant_uploads: int = Field(default=1000, ge=1)
    upload_expiry_seconds: float = Field(default=24 * 3600.0, gt=0)
    blob_threads: int = Field(default=8, ge=1, le=64)
    cleaning_seconds: float = Field(default=2.0, gt=0)

    @property
    def quotas(self) -> Quotas:
        return Quotas(self.tenant_projects, self.tenant_documents, self.tenant_bytes, self.tenant_uploads)
