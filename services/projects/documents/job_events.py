"""A document's status, from the events of its newest job.

Job events come late, twice or in any order. Jobs are ordered by their time-ordered ids, events of one job by its
revision: only events newer than the last one count, and none brings a deleted document or an older version back.
"""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.documents import repository, statuses
from services.projects.documents.models import Document
from shared import outbox
from shared.events.indexing import JobCancelled, JobCompleted, JobEvent, JobFailed, JobStarted
from shared.events.projects import (
    DocumentCancelled,
    DocumentEvent,
    DocumentFailed,
    DocumentIndexed,
    DocumentIndexing,
)
from shared.telemetry import get_logger

JobNews = JobStarted | JobCompleted | JobFailed | JobCancelled

_log = get_logger(__name__)


async def follow_job(session: AsyncSession, event: JobNews, *, sequence: int, time: datetime) -> None:
    """Apply a job event to the document and those linked to it, and publish it as their own event.

    Args:
        sequence: the job's revision.
        time: when it happened.
    """
    document = await repository.by_id(session, project_id=event.project_id, document_id=event.document_id, lock=True)
    if document is not None and isinstance(event, JobCompleted) and event.version < document.version:
        _note_live(document, event, time)
    if document is None or document.version != event.version or not _is_news(document, event, sequence):
        _log.info("job_event_dropped", type=event.type, document_id=str(event.document_id), sequence=sequence)
        return
    for follower in (document, *await repository.links_of(session, document.id)):
        follower.job_id, follower.job_sequence = event.job_id, sequence
        follower.revision += 1
        outbox.publish(session, _apply(session, follower, event, time), sequence=follower.revision)


def _note_live(document: Document, event: JobCompleted, time: datetime) -> None:
    """A version that was replaced before its job had finished is in search until the newest one is indexed, and stays
    there if that fails. The newest one's status is what clients follow: no event tells of this."""
    if event.version > (document.searched_version or 0):
        document.live_version = event.version
        _keep_facts(document, event, time)


def _is_news(document: Document, event: JobEvent, sequence: int) -> bool:
    if document.job_id is None:
        return True
    return (event.job_id, sequence) > (document.job_id, document.job_sequence)


def _apply(session: AsyncSession, document: Document, event: JobNews, time: datetime) -> DocumentEvent:
    document.error_code = document.error_reason = None
    facts = {
        "project_id": document.project_id,
        "document_id": document.id,
        "version": document.version,
        "job_id": event.job_id,
    }
    match event:
        case JobStarted():
            statuses.enter(session, document, "indexing")
            return DocumentIndexing.model_validate(facts)
        case JobCompleted():
            statuses.enter(session, document, "indexed")
            document.live_version = document.version
            _keep_facts(document, event, time)
            told = event.model_dump(include={"chunk_count", "title", "partly_read"})
            return DocumentIndexed.model_validate({**facts, **told})
        case JobFailed():
            statuses.enter(session, document, "failed")
            document.error_code, document.error_reason = event.code, event.reason
            return DocumentFailed.model_validate({**facts, "code": event.code, "reason": event.reason})
        case JobCancelled():
            statuses.enter(session, document, "cancelled")
            return DocumentCancelled.model_validate(facts)


def _keep_facts(document: Document, event: JobCompleted, time: datetime) -> None:
    document.chunk_count, document.indexed_at, document.title = event.chunk_count, time, event.title
    document.partly_read = list(event.partly_read) if event.partly_read else None
