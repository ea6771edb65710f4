"""Hearing Postgres' NOTIFY, as a wake-up for what waits for a change that any process may make.

Guarantees: `on_notification` is called for each NOTIFY that is heard, and once with an empty payload whenever listening
begins, since some may have been missed until then.
Does not guarantee: that each NOTIFY is heard. Those sent while the connection is being restored are lost.
Fails by: trying again, with backoff.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.resilience import Backoff
from shared.telemetry import get_logger

_log = get_logger(__name__)

OnNotification = Callable[[str], None]


async def hear(engine: AsyncEngine, suffix: str, on_notification: OnNotification) -> None:
    """Call `on_notification` with each payload of the channel `<schema><suffix>`, until cancelled.

    Holds one connection of the pool.
    """
    backoff = Backoff(first=0.1, most=2.0)
    while True:
        try:
            await _listen(engine, suffix, on_notification, backoff.reset)
        except (SQLAlchemyError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            delay = backoff.next()
            if backoff.worth_telling:
                _log.warning(
                    "notifications_interrupted", channel=suffix, reason=str(error)[:200], retry_in=round(delay, 2)
                )
            await asyncio.sleep(delay)


async def _listen(
    engine: AsyncEngine, suffix: str, on_notification: OnNotification, on_listening: Callable[[], None]
) -> None:
    """Raises ConnectionError when the connection ends."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        schema = (await connection.execute(select(func.current_schema()))).scalar_one()
        driver: Any = (await connection.get_raw_connection()).driver_connection
        ended = asyncio.Event()

        def hear(_connection: object, _pid: object, _channel: object, payload: str) -> None:
            on_notification(payload)

        def end(_connection: object) -> None:
            ended.set()

        channel = f"{schema}{suffix}"
        driver.add_termination_listener(end)
        try:
            await driver.add_listener(channel, hear)
            on_listening()
            on_notification("")
            await ended.wait()
        finally:
            driver.remove_termination_listener(end)
            if not driver.is_closed():
                await driver.remove_listener(channel, hear)
    raise ConnectionError("the listening connection ended")
