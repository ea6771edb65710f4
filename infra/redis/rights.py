"""What each service may do in Redis, derived from who reads whose events and from what else a service keeps there.

| a service | may |
| --- | --- |
| with a stream of its own | add to it and trim it, make groups on it, look at them; keep the stream's epoch and wakes |
| with a group on a stream | read it as a group, acknowledge and claim, make the group; never add, trim or delete |
| that follows a stream | read it; nothing else |
| with further keys | what `OTHERS` says |

Only the operator may list keys, delete them, flush, configure or script beyond these rights.

Does not guarantee: anything between the groups of one stream. Redis has rights on keys, not on groups, so a subscriber
could acknowledge in another service's group; and XADD can trim what it adds to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from shared.events.subscriptions import FOLLOWERS, PROGRESS_FOLLOWERS, PROGRESS_WRITERS, SUBSCRIBERS
from shared.redis_clients import PROGRESS_STREAM, stream_of

Access = Literal["R", "W", "RW"]

CONNECTION: Final = ("ping", "time", "info|memory", "client|setinfo", "client|setname")
"""Commands without a key that every service needs: health, the janitor's clock, the refusal of an evicting server."""


@dataclass(frozen=True, slots=True)
class Grant:
    """`commands` on keys that match `keys`, a pattern. Redis requires reading (R) or writing (W) by command."""

    keys: str
    access: Access
    commands: tuple[str, ...]


_GROUPS_SEEN: Final = ("xinfo|stream", "xinfo|groups", "xinfo|consumers", "xpending")

OTHERS: Final[Mapping[str, tuple[Grant, ...]]] = {
    # Rate limits: one script, its commands, and the state of each limit.
    "gateway": (Grant("gateway:limit:*", "RW", ("eval", "evalsha", "get", "set")),),
    # Announcements between the replicas of one service.
    "notifier": (Grant("notifier.feeds", "RW", ("xadd", "xread", "xrevrange")),),
}
WITHOUT_KEYS: Final[Mapping[str, tuple[str, ...]]] = {"gateway": ("script|load",)}


def grants(service: str) -> Sequence[Grant]:
    """Everything `service` may do with keys."""
    found: list[Grant] = []
    for producer, subscribers in SUBSCRIBERS.items():
        stream = stream_of(producer)
        if producer == service:
            found += _producing(stream)
        if service in subscribers:
            found += _subscribing(stream)
        if service in FOLLOWERS[producer]:
            found.append(_following(stream))
    if service in PROGRESS_WRITERS:
        found.append(Grant(PROGRESS_STREAM, "W", ("xadd",)))
    if service in PROGRESS_FOLLOWERS:
        found.append(_following(PROGRESS_STREAM))
    return (*found, *OTHERS.get(service, ()))


def commands_without_keys(service: str) -> Sequence[str]:
    return (*CONNECTION, *WITHOUT_KEYS.get(service, ()))


def _producing(stream: str) -> list[Grant]:
    return [
        Grant(stream, "W", ("xadd", "xtrim", "xgroup|create")),
        Grant(stream, "R", _GROUPS_SEEN),
        Grant(f"{stream}:epoch", "RW", ("get", "set", "exists")),
        Grant(f"{stream}:wake", "RW", ("xadd", "xread", "xrevrange")),
    ]


def _subscribing(stream: str) -> list[Grant]:
    return [
        Grant(stream, "R", ("xreadgroup", *_GROUPS_SEEN)),
        Grant(stream, "W", ("xack", "xclaim", "xautoclaim", "xgroup|create", "xgroup|delconsumer")),
    ]


def _following(stream: str) -> Grant:
    return Grant(stream, "R", ("xread", "xrevrange"))
