"""The table of subscriptions, compared with what the services themselves do when they run."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from redis.asyncio import Redis

from shared import service
from shared.events import subscriptions
from shared.events.envelope import producer_of
from shared.events.subscriptions import (
    FOLLOWED,
    FOLLOWERS,
    HANDLED,
    INVALIDATES,
    PRODUCERS,
    PROGRESS_FOLLOWERS,
    SUBSCRIBERS,
)
from shared.redis_clients import PROGRESS_STREAM, stream_of
from shared.stream_consumer import Consumer
from shared.topology import SERVICES
from tests.support.polling import eventually
from tests.support.serving import in_process
from tests.support.stacks import EnvironmentOf

OWN_STREAMS = {"notifier.feeds"}


class Heard:
    """What the services asked for while they ran: handled types, and followed streams with their reader, by service."""

    def __init__(self) -> None:
        self.handled: dict[str, frozenset[str]] = {}
        self.followed: dict[str, dict[str, Any]] = {}
        self.running = ""

    def consumer(self, *arguments: Any, **options: Any) -> Consumer:
        made = Consumer(*arguments, **options)
        self.handled[self.running] = made._dispatcher.event_types
        return made

    async def follow(self, redis: Redis, stream: str, on_entry: Any, *others: Any, **options: Any) -> None:
        self.followed.setdefault(self.running, {})[stream] = on_entry


@pytest.fixture(scope="module")
def recording() -> Iterator[Heard]:
    heard = Heard()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "Consumer", heard.consumer)
        patch.setattr("services.notifier.resources.follow", heard.follow)
        yield heard


@pytest.fixture(scope="module")
async def heard(recording: Heard, service_environment: EnvironmentOf) -> Heard:
    """Every service was started with real servers, one after the other."""
    for name in SERVICES:
        module = importlib.import_module(f"services.{name}.main")
        own = {**await service_environment(name), f"QUARRY_{name.upper()}_ROLES": "events"}
        recording.running = name
        async with in_process(module.create_app, own):
            if name == "notifier":
                await eventually(lambda: _is_following(recording))
    return recording


async def _is_following(recording: Heard) -> bool:
    return recording.running in recording.followed


def types_of(table: Mapping[str, subscriptions.Events]) -> dict[str, frozenset[str]]:
    return {name: frozenset(event.type for event in events) for name, events in table.items()}


async def test_services_handle_what_the_table_says(heard: Heard) -> None:
    assert heard.handled == types_of(HANDLED)


async def test_services_follow_the_streams_the_table_says(heard: Heard) -> None:
    expected = {name: {stream_of(producer_of(kind)) for kind in kinds} for name, kinds in types_of(FOLLOWED).items()}
    for name in PROGRESS_FOLLOWERS:
        expected[name].add(PROGRESS_STREAM)
    assert {name: set(streams) - OWN_STREAMS for name, streams in heard.followed.items()} == expected


async def test_followers_act_on_the_events_the_table_says(heard: Heard) -> None:
    """Those they have a rule for; that the rules work is tested with the services."""
    rules = frozenset(heard.followed["notifier"]["events.identity"].func.__self__._rules)
    assert {"notifier": rules} == types_of(FOLLOWED)


async def test_what_makes_a_projection_untrue_has_a_handler(heard: Heard) -> None:
    for name, kinds in types_of(INVALIDATES).items():
        assert name == "gateway" or kinds <= heard.handled[name]


def test_groups_and_followers_of_a_stream_follow_from_the_events() -> None:
    assert set(SUBSCRIBERS) == set(FOLLOWERS) == set(PRODUCERS)
    for producer in PRODUCERS:
        for table, readers in ((HANDLED, SUBSCRIBERS), (FOLLOWED, FOLLOWERS)):
            reading = {
                name for name, kinds in types_of(table).items() for kind in kinds if producer_of(kind) == producer
            }
            assert set(readers[producer]) == reading
            assert len(readers[producer]) == len(reading)


def test_nobody_subscribes_to_what_it_tells_itself() -> None:
    for service_name, kinds in types_of(HANDLED).items():
        assert service_name not in {producer_of(kind) for kind in kinds}
