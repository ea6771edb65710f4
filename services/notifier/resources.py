"""What the notifier is made of while it runs.

Every process appends to feeds where its role says so, and every process that serves HTTP follows four streams without a
group: announcements of other replicas, progress, and the two that take access away.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI

from services.notifier.feeds import announcements
from services.notifier.feeds.announcements import Announcer
from services.notifier.feeds.handlers import feed_handlers
from services.notifier.feeds.service import Retention
from services.notifier.settings import NotifierSettings
from services.notifier.streams import ticks
from services.notifier.streams.connections import Connections
from services.notifier.streams.hub import Hub
from services.notifier.streams.metrics import StreamReadings
from services.notifier.streams.revocations import Revocations
from services.notifier.streams.service import Streaming
from services.notifier.streams.shutdown import on_stop_signal
from services.notifier.streams.snapshots import Snapshots
from shared.access import ProjectDirectory, access_handlers
from shared.background import run_in_background
from shared.following import follow
from shared.handlers import Handler
from shared.health import Check
from shared.redis_clients import PROGRESS_STREAM, reader_client, stream_of
from shared.service import Runtime

Resources = Callable[[FastAPI, Runtime], AbstractAsyncContextManager[Sequence[Handler[Any]]]]


def resources(settings: NotifierSettings) -> Resources:
    """The notifier's own objects for `shared.service.create_app`."""

    @asynccontextmanager
    async def run(app: FastAPI, runtime: Runtime) -> AsyncIterator[Sequence[Handler[Any]]]:
        streaming = _streaming(settings, runtime)
        revocations = Revocations(streaming.connections, runtime.database, streaming.directory)
        announcer = Announcer(runtime.redis, streaming.hub.tell)
        app.state.streaming = streaming
        async with AsyncExitStack() as stack:
            stack.enter_context(runtime.metrics.including(StreamReadings(streaming.connections)))
            stack.callback(streaming.hub.close)
            stack.enter_context(on_stop_signal(streaming.connections.drain))
            for name, work in (
                ("announcements", announcer.run),
                ("poll", streaming.hub.poll),
                ("connections", streaming.connections.tend),
                ("revocations", revocations.run),
            ):
                await stack.enter_async_context(run_in_background(work, name=name))
            for name, on_entry, on_gap in (
                (announcements.STREAM, announcements.hear(streaming.hub.wake), _nothing),
                (PROGRESS_STREAM, ticks.hear(streaming.hub), _nothing),
                (stream_of("identity"), revocations.on_entry, revocations.on_identity_gap),
                (stream_of("projects"), revocations.on_entry, revocations.on_projects_gap),
            ):
                redis = reader_client(settings.redis_url.get_secret_value())
                stack.push_async_callback(redis.aclose)
                following = run_in_background(partial(follow, redis, name, on_entry, on_gap), name=name)
                runtime.checks[f"following {name}"] = _running(await stack.enter_async_context(following))
            yield _handlers(settings, announcer)

    return run


def _streaming(settings: NotifierSettings, runtime: Runtime) -> Streaming:
    return Streaming(
        settings=settings,
        database=runtime.database,
        directory=ProjectDirectory(settings.projects_url, runtime.tokens, runtime.http),
        connections=Connections(settings),
        hub=Hub(runtime.database, poll_seconds=settings.poll_seconds),
        snapshots=Snapshots(settings.indexing_url, runtime.tokens, runtime.http, seconds=settings.snapshot_seconds),
    )


def _handlers(settings: NotifierSettings, announcer: Announcer) -> Sequence[Handler[Any]]:
    retention = Retention(settings.keep_events, settings.keep_for)
    return (*access_handlers("notifier"), *feed_handlers(retention, announcer.announce))


def _running(task: "asyncio.Task[None]") -> Check:
    async def check() -> None:
        if task.done():
            raise RuntimeError("the reader has stopped")

    return check


def _nothing() -> None:
    """A gap in announcements is made good by the poll, one in progress by the next ticks."""
