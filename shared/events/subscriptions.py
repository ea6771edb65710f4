"""Which service reads whose events. The only such table; streams, groups, trimming, access rights and documents follow.

A *subscriber* is a service with a consumer group of its own name on the producer's stream: an entry stays until every
group has acknowledged it. A *follower* reads without a group: every process sees every entry from its start on.
A test compares this table with what the services do.
"""

from collections.abc import Mapping
from typing import Final

from shared.events.envelope import Event, producer_of
from shared.events.identity import ApiKeyRevoked, MembershipChanged, SessionRevoked, TenantDeleted
from shared.events.indexing import (
    IndexPurged,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobStarted,
    RunAnswerRestarted,
    RunCitationVerified,
    RunDeleted,
    RunEnded,
    RunPassagesFound,
    RunStarted,
    RunStepCompleted,
    RunStepStarted,
    RunTextAdded,
)
from shared.events.notifier import FeedPurged
from shared.events.projects import (
    BatchCompleted,
    DocumentCancelled,
    DocumentCancelRequested,
    DocumentDeleted,
    DocumentFailed,
    DocumentIndexed,
    DocumentIndexing,
    DocumentPurged,
    DocumentRetryRequested,
    DocumentUpdated,
    DocumentUploaded,
    ProjectCreated,
    ProjectDeleted,
    ProjectMemberChanged,
    ProjectRestored,
    ProjectUpdated,
)
from shared.topology import BACKENDS

PRODUCERS: Final = BACKENDS
"""Services with an outbox, a relay and a stream of their own, whether or not they have told anything yet."""

Events = tuple[type[Event], ...]

_PROJECT_ACCESS: Final[Events] = (ProjectCreated, ProjectDeleted, ProjectRestored, ProjectMemberChanged)
_RUNS: Final[Events] = (
    RunStarted,
    RunStepStarted,
    RunStepCompleted,
    RunPassagesFound,
    RunTextAdded,
    RunAnswerRestarted,
    RunCitationVerified,
    RunEnded,
    RunDeleted,
)
_LOST_ACCESS: Final[Events] = (TenantDeleted, MembershipChanged, SessionRevoked, ApiKeyRevoked)

HANDLED: Final[Mapping[str, Events]] = {
    "projects": (
        TenantDeleted,
        MembershipChanged,
        JobStarted,
        JobCompleted,
        JobFailed,
        JobCancelled,
        IndexPurged,
        FeedPurged,
    ),
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
        BatchCompleted,
        DocumentUploaded,
        DocumentIndexing,
        DocumentIndexed,
        DocumentFailed,
        DocumentCancelled,
        DocumentUpdated,
        DocumentDeleted,
        DocumentPurged,
        IndexPurged,
        *_RUNS,
    ),
}
"""The events each service has a handler for, once in its inbox."""

FOLLOWED: Final[Mapping[str, Events]] = {
    "notifier": (*_LOST_ACCESS, *_PROJECT_ACCESS),
}
"""The events each service also, or only, acts on as a follower."""

INVALIDATES: Final[Mapping[str, Events]] = {
    "gateway": _LOST_ACCESS,
    "indexing": (
        ProjectDeleted,
        ProjectRestored,
        ProjectMemberChanged,
        DocumentUpdated,
        DocumentDeleted,
        DocumentCancelRequested,
        DocumentRetryRequested,
    ),
    "notifier": (ProjectDeleted, ProjectRestored, ProjectMemberChanged),
}
"""The events that make what each service remembers untrue: it has acknowledged them before a request that caused one is
answered (`shared.invalidations`)."""

PROGRESS_WRITERS: Final = ("indexing",)
PROGRESS_FOLLOWERS: Final = ("notifier",)


def _readers(table: Mapping[str, Events]) -> dict[str, tuple[str, ...]]:
    return {
        producer: tuple(
            service for service, events in table.items() if producer in {producer_of(event.type) for event in events}
        )
        for producer in PRODUCERS
    }


INVALIDATORS: Final = frozenset(producer_of(event.type) for events in INVALIDATES.values() for event in events)
"""The services that own what others keep copies of."""


def holders_of(event_type: str) -> frozenset[str]:
    """The services that have to acknowledge an event of this type."""
    return frozenset(name for name, events in INVALIDATES.items() if event_type in {event.type for event in events})


SUBSCRIBERS: Final[Mapping[str, tuple[str, ...]]] = _readers(HANDLED)
"""Producer to the services with a group on its stream."""

FOLLOWERS: Final[Mapping[str, tuple[str, ...]]] = _readers(FOLLOWED)
"""Producer to the services that read its stream without a group."""
