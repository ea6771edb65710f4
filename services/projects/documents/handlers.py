"""Turns indexing's job events into the document's status and the document's own events."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.projects.documents import job_events
from shared.events.envelope import Envelope
from shared.events.indexing import JobCancelled, JobCompleted, JobFailed, JobStarted
from shared.handlers import Handler


async def on_job_event(session: AsyncSession, event: job_events.JobNews, envelope: Envelope) -> None:
    await job_events.follow_job(session, event, sequence=envelope.sequence, time=envelope.time)


HANDLERS: tuple[Handler[JobStarted] | Handler[JobCompleted] | Handler[JobFailed] | Handler[JobCancelled], ...] = (
    Handler(event=JobStarted, call=on_job_event, name="projects.on_job_started"),
    Handler(event=JobCompleted, call=on_job_event, name="projects.on_job_completed"),
    Handler(event=JobFailed, call=on_job_event, name="projects.on_job_failed"),
    Handler(event=JobCancelled, call=on_job_event, name="projects.on_job_cancelled"),
)
