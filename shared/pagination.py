"""Keyset pagination: a cursor is the sort key of the last row seen, encoded; it holds no authority of its own."""

import base64
import binascii
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Generic, TypeVar

import orjson
from fastapi import Query
from pydantic import BaseModel

from shared.errors import InvalidRequest

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=512)]


class InvalidCursor(InvalidRequest):
    code = "invalid_cursor"
    detail = "The cursor is not one that this list returned."


class Page(BaseModel, Generic[T]):
    """One page of a list. `next_cursor` is null on the last page."""

    items: list[T]
    next_cursor: str | None


def encode_cursor(moment: datetime, row_id: uuid.UUID) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([moment.isoformat(), str(row_id)])).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> tuple[datetime, uuid.UUID] | None:
    """The position after which the page begins, or None for the first page.

    Raises:
        InvalidCursor: not something `encode_cursor` made.
    """
    if cursor is None:
        return None
    try:
        time, row_id = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        moment = datetime.fromisoformat(time)
        if moment.tzinfo is None:
            raise InvalidCursor
        # In UTC: a moment that is out of range there is one that no database can compare with.
        return moment.astimezone(UTC), uuid.UUID(row_id)
    except (ValueError, TypeError, AttributeError, OverflowError, binascii.Error) as error:
        raise InvalidCursor from error


def cut_page(
    rows: Sequence[T], limit: int, position: Callable[[T], tuple[datetime, uuid.UUID]]
) -> tuple[list[T], str | None]:
    """Cut `limit + 1` fetched rows to a page and the cursor of the next one, if there is one."""
    page = list(rows[:limit])
    more = len(rows) > limit
    return page, encode_cursor(*position(page[-1])) if more else None
