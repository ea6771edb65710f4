"""What the blob store holds."""

import uuid
from pathlib import Path

from tests.support.files import files_below


def blobs_of(blob_root: Path, tenant_id: uuid.UUID) -> list[Path]:
    """Every file of a tenant, kept or incoming."""
    return [path for path in files_below(blob_root) if str(tenant_id) in str(path)]
