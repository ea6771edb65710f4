"""A long transfer goes on only while its caller may still send or read the bytes."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from shared.errors import Unavailable
from shared.telemetry import get_logger

EVERY_SECONDS: Final = 4.0
# Without a reply for this long, the caller's permission counts as unknown.
GRACE_SECONDS: Final = 30.0

Check = Callable[[], Awaitable[None]]
_log = get_logger(__name__)


async def while_allowed(
    chunks: AsyncIterator[bytes], check: Check, *, every: float = EVERY_SECONDS, grace: float = GRACE_SECONDS
) -> AsyncIterator[bytes]:
    """`chunks`, with `check` called again every few seconds.

    Raises:
        What `check` raises; `Unavailable` only once it has raised that for `grace` seconds.
    """
    proven = asked = time.monotonic()
    async for chunk in chunks:
        now = time.monotonic()
        if now - asked >= every:
            asked = now
            try:
                await check()
                proven = asked = time.monotonic()
            except (Unavailable, SQLAlchemyError, OSError) as error:
                if now - proven >= grace:
                    raise
                _log.warning("permission_not_checked", reason=str(error)[:200])
        yield chunk
