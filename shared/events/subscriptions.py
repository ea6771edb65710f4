"""Who reads whose events. The one place that knows; streams, groups, trimming and access rights follow from it.

A *subscriber* is a service with a consumer group of its own name on the producer's stream: an entry stays until every
group has acknowledged it. A *follower* reads without a group: every process sees every entry from when it begins.
"""

from collections.abc import Mapping
from typing import Final

SUBSCRIBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "identity": ("indexing", "notifier"),
    "projects": ("indexing", "notifier"),
    "indexing": ("projects",),
    "notifier": (),
}

FOLLOWERS: Final[Mapping[str, tuple[str, ...]]] = {
    "identity": ("gateway",),
}
