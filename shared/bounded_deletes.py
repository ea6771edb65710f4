"""Deletes of at most a given number of rows, for clearing tables of any size in steps."""

from typing import Any, Final, cast

from sqlalchemy import ColumnElement, CursorResult, delete, inspect, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from shared.db import Model

ROWS: Final = 1000
"""This many take some ten milliseconds, far from the limit on statements."""


async def delete_some(session: AsyncSession, table: type[Model], *conditions: ColumnElement[bool]) -> int:
    """Delete the first `ROWS` of the session's tenant that meet the conditions, by primary key; returns how many."""
    key = [getattr(table, str(column.key)) for column in inspect(table).primary_key]
    first = select(*key).where(*conditions).order_by(*key).limit(ROWS)
    statement = delete(table).where(tuple_(*key).in_(first)).execution_options(synchronize_session=False)
    return cast("CursorResult[Any]", await session.execute(statement)).rowcount
