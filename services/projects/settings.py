"""Settings of the projects service."""

from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from services.projects.tenants.service import Quotas
from shared.settings import DatabaseSettings

_MIB = 1024 * 1024


_NEEDED_WITH_S3: Final = ("s3_bucket", "s3_access_key_id", "s3_secret_access_key")


class ProjectsSettings(DatabaseSettings):
    """`tenant_*`: quotas per tenant; `tenant_uploads` of unfinished resumable uploads, which expire
    `upload_expiry_seconds` after their last progress. `export_*`: how many exports one process makes at
    a time, and how long each is kept. Where the bytes of documents are, one of two:

    - `blob_root`: a folder, shared by all processes of the service.
    - `s3_url`: an S3-compatible server, and `s3_bucket` there. A process has `s3_connections` to it at most, and 16 MiB
      of memory for `s3_buffers` uploads of more than 1 MiB, half of each for one tenant. With `s3_public_url`, the
      server as clients reach it, they are sent there for content.
    """

    service: ClassVar[str] = "projects"

    s3_url: str | None = None
    s3_public_url: str | None = None
    s3_bucket: str | None = Field(default=None, validate_default=True)
    s3_region: str = "us-east-1"
    s3_access_key_id: SecretStr | None = Field(default=None, validate_default=True)
    s3_secret_access_key: SecretStr | None = Field(default=None, validate_default=True)
    s3_connections: int = Field(default=16, ge=2, le=256)
    s3_buffers: int = Field(default=16, ge=2, le=4096)
    blob_root: Path | None = Field(default=None, validate_default=True)
    max_document_bytes: int = Field(default=512 * _MIB, ge=1)
    tenant_projects: int = Field(default=10_000, ge=1)
    tenant_documents: int = Field(default=100_000, ge=1)
    tenant_bytes: int = Field(default=100 * 1024 * _MIB, ge=1)
    tenant_uploads: int = Field(default=1000, ge=1)
    upload_expiry_seconds: float = Field(default=24 * 3600.0, gt=0)
    tenant_exports: int = Field(default=5, ge=1)
    tenant_exports_under_way: int = Field(default=1, ge=1)
    tenant_open_batches: int = Field(default=100, ge=1)
    export_workers: int = Field(default=2, ge=1, le=16)
    export_hours: float = Field(default=24.0, gt=0)
    blob_threads: int = Field(default=8, ge=1, le=64)
    cleaning_seconds: float = Field(default=2.0, gt=0)

    @field_validator("s3_url", "s3_public_url", mode="before")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        if url and (urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname):
            raise ValueError("must be an http or https url")
        return url or None

    @field_validator(*_NEEDED_WITH_S3)
    @classmethod
    def _is_there(cls, value: str | SecretStr | None, info: ValidationInfo) -> str | SecretStr | None:
        if info.data.get("s3_url") is not None and not value:
            raise ValueError("required with s3_url")
        return value

    @field_validator("blob_root", mode="before")
    @classmethod
    def _is_named(cls, root: Path | str | None) -> Path | str | None:
        return root or None

    @field_validator("blob_root")
    @classmethod
    def _is_the_only_one(cls, root: Path | None, info: ValidationInfo) -> Path | None:
        if (root is None) == (info.data.get("s3_url") is None):
            raise ValueError("set one of blob_root and s3_url")
        return root

    @property
    def quotas(self) -> Quotas:
        return Quotas(
            projects=self.tenant_projects,
            documents=self.tenant_documents,
            bytes=self.tenant_bytes,
            uploads=self.tenant_uploads,
            exports=self.tenant_exports,
            exports_under_way=self.tenant_exports_under_way,
            open_batches=self.tenant_open_batches,
        )
