"""The notifier's resources while it runs: database, Redis, readers of streams and the feeds' connections.

Processes with the handlers' role append to feeds, and every process that serves HTTP follows four streams without a
group: announcements of other replicas, progress, and the two that revoke access.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from services.notifier.feeds import announcements, erasure
from services.notifier.feeds.announcements import Announcer
from services.notifier.feeds.handlers import feed_handlers
from services.notifier.feeds.service import Retention
from services.notifier.runs import expiry
from services.notifier.runs.handlers import run_handlers
from services.notifier.settings import NotifierSettings
from services.notifier.streams import progress_ticks
from services.notifier.streams.connections import Connections
from services.notifier.streams.followed_runs import FollowedRuns
from services.notifier.streams.hub import Hub
from services.notifier.streams.metrics import StreamReadings
from services.notifier.streams.revocations import Revocations
from services.notifier.streams.service import Streaming
from services.notifier.streams.shutdown import on_stop_signal
from services.notifier.streams.snapshots import Snapshots
from shared.background import run_in_background
from shared.handlers import Handler
from shared.health import Check
from shared.invalidations.holder import Holder, Ownership
from shared.invalidations.projected_copies import Projection
from shared.project_access import ProjectDirectory, access_handlers
from shared.redis_clients import PROGRESS_STREAM, reader_client, stream_of
from shared.service import Runtime, Started
from shared.settings import Role
from shared.stream_tail import follow


@asynccontextmanager
async def resources(settings: NotifierSettings, runtime: Runtime) -> AsyncIterator[Started[Streaming]]:
    ownership = Ownership("projects", settings.projects_url, "notifier", durable=True)
    projection = Projection(Holder(ownership, runtime.tokens, runtime.http))
    streaming = _streaming(settings, runtime, projection)
    revocations = Revocations(streaming.connections, runtime.database, streaming.directory)
    announcer = Announcer(runtime.redis, streaming.hub.tell, streaming.hub.wake)
    async with AsyncExitStack() as stack:
        stack.enter_context(runtime.metrics.including(StreamReadings(streaming.connections)))
        stack.callback(streaming.hub.close)
        stack.enter_context(on_stop_signal(streaming.connections.drain))
        for name, work in (
            ("announcements", announcer.run),
            ("poll", streaming.hub.poll),
            ("connections", streaming.connections.tend),
            ("revocations", revocations.run),
            ("erasure", partial(erasure.run, runtime.database)),
            ("feeds of runs", partial(expiry.run, runtime.database)),
        ):
            await stack.enter_async_context(run_in_background(work, name=name))
        for name, on_entry, on_gap in (
            (announcements.STREAM, announcements.hear(streaming.hub.wake), _nothing),
            (PROGRESS_STREAM, progress_ticks.hear(streaming.hub), _nothing),
            (stream_of("identity"), partial(revocations.hear, stream_of("identity")), revocations.on_identity_gap),
            (stream_of("projects"), partial(revocations.hear, stream_of("projects")), revocations.on_projects_gap),
        ):
            redis = reader_client(settings.redis_url.get_secret_value())
            stack.push_async_callback(redis.aclose)
            following = run_in_background(partial(follow, redis, name, on_entry, on_gap), name=name)
            runtime.checks[f"following {name}"] = _running(await stack.enter_async_context(following))
        if Role.HTTP in settings.roles:
            # The handlers of feeds keep an order, which the lease does not: their events come by the stream alone.
            kept = projection.kept(
                runtime,
                "projects",
                access_handlers("notifier"),
                applied=lambda entry: revocations.hear(stream_of("projects"), b"", {b"event": entry}),
            )
            await stack.enter_async_context(kept)
        yield streaming, _handlers(settings, announcer)


def _streaming(settings: NotifierSettings, runtime: Runtime, projection: Projection) -> Streaming:
    return Streaming(
        settings=settings,
        database=runtime.database,
        directory=ProjectDirectory(settings.projects_url, runtime.tokens, runtime.http, projection),
        connections=Connections(settings),
        hub=Hub(runtime.database, poll_seconds=settings.poll_seconds),
        snapshots=Snapshots(settings.indexing_url, runtime.tokens, runtime.http, seconds=settings.snapshot_seconds),
        runs=FollowedRuns(settings.indexing_url, runtime.tokens, runtime.http),
    )


def _handlers(settings: NotifierSettings, announcer: Announcer) -> Sequence[Handler[Any]]:
    retention = Retention(settings.keep_events, settings.keep_for)
    return (
        *access_handlers("notifier"),
        *feed_handlers(retention, announcer.announce),
        *run_handlers(settings.keep_for, announcer.announce_run),
    )


def _running(task: "asyncio.Task[None]") -> Check:
    async def check() -> None:
        if task.done():
            raise RuntimeError("the reader has stopped")

    return check


def _nothing() -> None:
    """The poll makes up for a gap in announcements, the next ticks for one in progress."""
