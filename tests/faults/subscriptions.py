"""Which handler of which service applies which event: read from the services' own lists."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from services.indexing.agents.runs.handlers import handlers as runs_of_indexing
from services.indexing.documents.handlers import handlers as indexing_handlers
from services.notifier.feeds.handlers import SHOWN, feed_handlers
from services.notifier.feeds.repository import NewEvent
from services.notifier.feeds.service import Announcement, Retention
from services.notifier.runs.handlers import run_handlers
from services.projects.documents.handlers import HANDLERS as DOCUMENTS_HANDLERS
from services.projects.purges.handlers import HANDLERS as PURGES_HANDLERS
from services.projects.tenants.handlers import HANDLERS as TENANTS_HANDLERS
from shared.handlers import Handler
from shared.project_access import access_handlers


class Subscription(NamedTuple):
    type: str
    service: str
    handler: str


def subscriptions() -> list[Subscription]:
    """Every handler of every service."""
    lists: dict[str, Sequence[Handler[Any]]] = {
        "projects": (*DOCUMENTS_HANDLERS, *PURGES_HANDLERS, *TENANTS_HANDLERS),
        "indexing": (
            *access_handlers("indexing"),
            *indexing_handlers(wake=_nobody, interrupt=_nobody),
            *runs_of_indexing(wake=_nobody, interrupt=_nobody),
        ),
        "notifier": (
            *access_handlers("notifier"),
            *feed_handlers(Retention(1, timedelta(days=1)), _nothing),
            *run_handlers(timedelta(days=1), lambda _: None),
        ),
    }
    return [
        Subscription(handler.event.type, service, handler.name)
        for service, handlers in lists.items()
        for handler in handlers
    ]


def shown_types() -> list[str]:
    """Types of the events that end up in a feed."""
    return sorted(event.type for event in SHOWN)


def _nobody() -> None:
    """Nobody is woken: the lists are only read."""


def _nothing(_announcement: Announcement, _event: NewEvent) -> None:
    """Nothing is announced: the lists are only read."""
