"""Settings of the notifier: `QUARRY_NOTIFIER_...`."""

from datetime import timedelta
from typing import ClassVar

from pydantic import Field

from shared.settings import DatabaseSettings


class NotifierSettings(DatabaseSettings):
    """What a feed keeps, and how many streams one process holds and for how long. Durations are in seconds.

    A stream ends between `stream_seconds` and a third more, at random, so that clients do not all return at once.
    """

    service: ClassVar[str] = "notifier"

    indexing_url: str
    projects_url: str

    keep_events: int = Field(default=10_000, ge=1)
    keep_for: timedelta = timedelta(days=7)

    max_streams: int = Field(default=10_000, ge=1)
    max_streams_per_tenant: int = Field(default=5_000, ge=1)
    max_streams_per_caller: int = Field(default=2_000, ge=1)
    queue_frames: int = Field(default=512, ge=8)
    send_seconds: float = Field(default=10.0, gt=0)
    heartbeat_seconds: float = Field(default=15.0, gt=0)
    stream_seconds: float = Field(default=900.0, gt=0)
    poll_seconds: float = Field(default=2.0, gt=0)
    snapshot_seconds: float = Field(default=1.0, gt=0)
