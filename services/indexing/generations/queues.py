"""Whose turn it is: the next step of a generation, and documents that a generation lacks."""

from datetime import timedelta
from typing import Final

from services.indexing.generations.models import Generation, GenerationDocument
from services.indexing.tenant_turns import queue_by_tenant
from shared.work_queue import Retry

GENERATIONS: Final = queue_by_tenant(
    Generation,
    tenant_id=Generation.tenant_id,
    due_at=Generation.due_at,
    attempts=Generation.attempts,
    retry=Retry(timedelta(seconds=1), timedelta(seconds=60)),
)
DOCUMENTS: Final = queue_by_tenant(
    GenerationDocument,
    tenant_id=GenerationDocument.tenant_id,
    due_at=GenerationDocument.due_at,
    attempts=GenerationDocument.attempts,
    retry=Retry(timedelta(seconds=1), timedelta(seconds=60)),
)
