"""Who reads whose events. The one place that knows; streams, groups, trimming, access rights and documents follow.

A *subscriber* is a service with a consumer group of its own name on the producer's stream: an entry stays until every
group has acknowledged it. A *follower* reads without a group: every process sees every entry from when it begins.
A test compares this table with what the services do.
"""

from collections.abc import Mapping
from typing import Final

from shared.events.envelope import Event, producer_of
from shared.events.identity import ApiKeyRevoked, MembershipChanged, SessionRevoked, TenantDeleted
from shared.events.indexing import JobCancelled, JobCompleted, JobFailed, JobStarted
from shared.events.projects import (
    DocumentCancelled,
    DocumentCancelRequested,
    DocumentDeleted,
    DocumentFailed,
    DocumentIndexed,
    DocumentIndexing,
    DocumentRetryRequested,
    DocumentUpdated,
    DocumentUploaded,
    ProjectCreated,
    ProjectDeleted,
    ProjectMemberChanged,
    ProjectRestored,
    ProjectUpdated,
)

PRODUCERS: Final = ("identity", "projects", "indexing", "notifier")
"""Services with an outbox, a relay and a stream of their own, whether or not they have told anything yet."""

Events = tuple[type[Event], ...]

_PROJECT_ACCESS: Final[Events] = (ProjectCreated, ProjectDeleted, ProjectRestored, ProjectMemberChanged)
_LOST_ACCESS: Final[Events] = (TenantDeleted, MembershipChanged, SessionRevoked, ApiKeyRevoked)

HANDLED: Final[Mapping[str, Events]] = {
    "projects": (JobStarted, JobCompleted, JobFailed, JobCancelled),
    "indexing": (
        TenantDeleted,
        *_PROJECT_ACCESS,
        DocumentUploaded,
        DocumentUpdated,
        DocumentDeleted,
        DocumentCancelRequested,
        DocumentRetryRequested,
    ),
    "notifier": (
        TenantDeleted,
        *_PROJECT_ACCESS,
        ProjectUpdated,
        DocumentUploaded,
        DocumentIndexing,
        DocumentIndexed,
        DocumentFailed,
        DocumentCancelled,
        DocumentDeleted,
    ),
}
"""The events each service has a handler for, once in its inbox."""

FOLLOWED: Final[Mapping[str, Events]] = {
    "gateway": _LOST_ACCESS,
    "notifier": (*_LOST_ACCESS, *_PROJECT_ACCESS),
}
"""The events each service also, or only, acts on as a follower."""

PROGRESS_WRITERS: Final = ("indexing",)
PROGRESS_FOLLOWERS: Final = ("notifier",)


def _readers(table: Mapping[str, Events]) -> dict[str, tuple[str, ...]]:
    return {
        producer: tuple(
            service for service, events in table.items() if producer in {producer_of(event.type) for event in events}
        )
        for producer in PRODUCERS
    }


SUBSCRIBERS: Final[Mapping[str, tuple[str, ...]]] = _readers(HANDLED)
"""Producer to the services with a group on its stream."""

FOLLOWERS: Final[Mapping[str, tuple[str, ...]]] = _readers(FOLLOWED)
"""Producer to the services that read its stream without a group."""
