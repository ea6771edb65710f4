"""Opening a stream and what is sent on it, from the greeting to the goodbye.

Guarantees: after Last-Event-ID every durable event of the feed in order, each once, or an explicit `reset`; then one
`snapshot`; then live events. Between replayed and live events there is neither a gap nor a duplicate: the connection
joins the hub first and drops what it already has.
No database session is held while a stream is open. Access is checked before the first byte and again by
`services.notifier.streams.revocations`.
"""

import re
import uuid
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from services.notifier.feeds.repository import FeedKey, Head
from services.notifier.runs.models import LAST_EVENTS
from services.notifier.settings import NotifierSettings
from services.notifier.streams import access, frames, reading
from services.notifier.streams.connection import COMPLETE, Connection
from services.notifier.streams.connections import Connections
from services.notifier.streams.errors import InvalidEventId
from services.notifier.streams.followed_runs import FollowedRun, FollowedRuns
from services.notifier.streams.hub import Hub
from services.notifier.streams.response import EventStream, Write
from services.notifier.streams.snapshots import Snapshots
from shared.auth import Principal
from shared.errors import NotFound
from shared.fair_semaphore import FairSemaphore
from shared.project_access import ProjectDirectory
from shared.telemetry import get_logger
from shared.tenancy import Database

RETRY_MS = 2000
_REPLAYS = 4
# Small enough that encoding one does not block the event loop for long.
_REPLAYED_AT_ONCE = 100
_EVENT_ID = re.compile(r"[0-9]{1,40}", re.ASCII)
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Streaming:
    """What streams need; one per process. They are all that requests need of the running notifier."""

    settings: NotifierSettings
    database: Database
    directory: ProjectDirectory
    connections: Connections
    hub: Hub
    snapshots: Snapshots
    runs: FollowedRuns
    # Pages of missed events are read and encoded for one client of a tenant after the other.
    replays: FairSemaphore = field(default_factory=lambda: FairSemaphore(_REPLAYS, each=1))


def parse_event_id(value: str | None) -> int | None:
    """The sequence a Last-Event-ID names; None when the client sends none.

    Raises:
        InvalidEventId: not a number.
    """
    if not value:
        return None
    if not _EVENT_ID.fullmatch(value):
        raise InvalidEventId
    return int(value)


async def open_project(
    streaming: Streaming,
    principal: Principal,
    *,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    last_event_id: int | None,
) -> EventStream:
    """The response that streams a project's feed to one client.

    Raises:
        NotFound, Forbidden, Unavailable: see `access.require`.
        TooManyStreams, StreamsExhausted: see `Connections.admit`.
    """
    if project_id == tenant_id:
        # That key means the tenant's own feed, which is not a project.
        raise NotFound
    return await _open(streaming, principal, FeedKey(tenant_id, project_id), last_event_id)


async def open_tenant(
    streaming: Streaming, principal: Principal, *, tenant_id: uuid.UUID, last_event_id: int | None
) -> EventStream:
    """The response that streams what the caller may see of all its tenant's projects.

    Raises:
        NotFound, Forbidden, Unavailable, TooManyStreams, StreamsExhausted: as for a project.
    """
    return await _open(streaming, principal, FeedKey(tenant_id, tenant_id), last_event_id)


async def open_run(
    streaming: Streaming,
    principal: Principal,
    *,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    run_id: uuid.UUID,
    last_event_id: int | None,
) -> EventStream | None:
    """The response that streams a run's feed to one client, from its beginning unless resumed. None when the client has
    got all of it, the last event as well.

    Raises:
        NotFound: no such run, or as for a project.
        Forbidden, Unavailable, TooManyStreams, StreamsExhausted: as for a project.
    """
    key = FeedKey(tenant_id, run_id, project_id)
    connection = streaming.connections.admit(principal, key)
    try:
        head = await _admitted(streaming, connection)
        followed = await streaming.runs.of(key)
    except BaseException:
        streaming.connections.discard(connection)
        raise
    if followed.ended and last_event_id is not None and last_event_id == followed.last_sequence:
        streaming.connections.discard(connection)
        return None

    async def talk(write: Write) -> None:
        await _follow_run(streaming, connection, head, followed, last_event_id or 0, write)

    def hang_up() -> None:
        _hang_up(streaming, connection)
        if connection.ending == "gone" and followed.ends_with_its_client:
            streaming.runs.left(key, principal.user_id)

    return EventStream(connection, talk=talk, hang_up=hang_up)


async def _open(streaming: Streaming, principal: Principal, key: FeedKey, last_event_id: int | None) -> EventStream:
    # Admitted first, so that a revocation that arrives during the check ends this stream as well.
    connection = streaming.connections.admit(principal, key)
    try:
        head = await _admitted(streaming, connection)
    except BaseException:
        streaming.connections.discard(connection)
        raise

    async def talk(write: Write) -> None:
        await _talk(streaming, connection, head, last_event_id, write)

    return EventStream(connection, talk=talk, hang_up=lambda: _hang_up(streaming, connection))


async def _admitted(streaming: Streaming, connection: Connection) -> Head:
    """The head of the connection's feed, once its caller is found to have access."""
    principal, key = connection.principal, connection.key
    await access.ensure_known(streaming.database, principal, streaming.directory, key)
    async with streaming.database.tenant(key.tenant_id) as session:
        connection.visible = await access.require(session, principal, streaming.directory, key)
        return await reading.head(session, key)


def _hang_up(streaming: Streaming, connection: Connection) -> None:
    streaming.hub.leave(connection)
    streaming.connections.discard(connection)


async def _follow_run(
    streaming: Streaming, connection: Connection, head: Head, run: FollowedRun, cursor: int, write: Write
) -> None:
    key = connection.key
    kept_for = streaming.settings.keep_for
    if (
        head.first_kept > 1
        or (run.ended and not head.last and run.ended_before(kept_for))
        or cursor > run.last_sequence
    ):
        gone = frames.greeting(retry_ms=RETRY_MS, position=None) + frames.reset(key, sequence=run.last_sequence)
        if run.ended:
            gone += frames.last_state(key, run.run, sequence=run.last_sequence)
            connection.end(COMPLETE)
        await write(gone)
        cursor = run.last_sequence
    await _talk(streaming, connection, head, cursor, write)


async def _talk(
    streaming: Streaming, connection: Connection, head: Head, last_event_id: int | None, write: Write
) -> None:
    async def catch_up(until: int) -> None:
        await _catch_up(streaming, connection, until, write)

    try:
        if connection.ending is None:
            await _greet(connection, head, last_event_id, write)
            await catch_up(head.last)
        if connection.ending is None:
            await streaming.hub.join(connection, catch_up)
        if connection.ending is None and not connection.key.is_run:
            await _send_snapshot(streaming.snapshots, connection, write)
        while chunk := await connection.next_chunk():
            await write(chunk)
    except (SQLAlchemyError, OSError) as error:
        _log.warning("stream_interrupted", tenant_id=str(connection.key.tenant_id), reason=str(error)[:200])
        connection.end("interrupted", at_once=True)
    await write(frames.goodbye(connection.ending or "resume", retry_ms=RETRY_MS))


async def _send_snapshot(snapshots: Snapshots, connection: Connection, write: Write) -> None:
    key = connection.key
    running = await snapshots.of(key)
    await write(frames.snapshot(key, sequence=connection.cursor, jobs=running.jobs, complete=running.complete))


async def _greet(connection: Connection, head: Head, last_event_id: int | None, write: Write) -> None:
    """Tell the client at once that the stream is open, and where it goes on."""
    connection.cursor = head.last if last_event_id is None else last_event_id
    position = head.last if last_event_id is None else None
    greeting = frames.greeting(retry_ms=RETRY_MS, position=position)
    # A run says how many events it has; the last of them may still be on their way here.
    if not connection.key.is_run and not head.first_kept - 1 <= connection.cursor <= head.last:
        connection.cursor = head.last
        greeting += frames.reset(connection.key, sequence=head.last)
    await write(greeting)


async def _catch_up(streaming: Streaming, connection: Connection, until: int, write: Write) -> None:
    """Send the events between the cursor and `until`, page by page, or a reset when they were trimmed meanwhile."""
    key = connection.key
    while connection.cursor < until and connection.ending is None:
        async with streaming.replays.turn(key.tenant_id), streaming.database.tenant(key.tenant_id) as session:
            events = await reading.events_between(
                session, key, after=connection.cursor, until=until, limit=_REPLAYED_AT_ONCE, visible=connection.visible
            )
            head = await reading.head(session, key)
            missed = b"".join(frames.durable(key, event).wire for event in events)
        if head.first_kept > connection.cursor + 1:
            connection.cursor = head.last
            await write(frames.reset(key, sequence=head.last))
            return
        connection.cursor = events[-1].sequence if len(events) == _REPLAYED_AT_ONCE else until
        if missed:
            await write(missed)
        if key.is_run and events and events[-1].type in LAST_EVENTS:
            connection.end(COMPLETE)
