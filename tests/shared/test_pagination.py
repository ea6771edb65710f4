import base64
import uuid
from datetime import UTC, datetime

import orjson
import pytest

from shared.pagination import InvalidCursor, cut_page, decode_cursor, encode_cursor


def test_a_cursor_comes_back_as_it_went() -> None:
    moment, row_id = datetime.now(UTC), uuid.uuid4()
    assert decode_cursor(encode_cursor(moment, row_id)) == (moment, row_id)
    assert decode_cursor(None) is None


@pytest.mark.parametrize(
    "values",
    [
        ["2026-01-01T00:00:00+00:00", 5],
        ["2026-01-01T00:00:00+00:00", None],
        [5, 5],
        ["2026-01-01T00:00:00", str(uuid.UUID(int=1))],
        ["0001-01-01T00:00:00+23:59", str(uuid.UUID(int=1))],
        ["9999-12-31T23:59:59-23:59", str(uuid.UUID(int=1))],
        [[], {}],
        {"a": 1, "b": 2},
        1,
    ],
)
def test_a_cursor_of_other_values_is_refused(values: object) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("="))


@pytest.mark.parametrize("cursor", ["", "x", "e30", "bnVsbA", "WzEsMl0", "WyIyMDI2LTAxLTAxIiwgIngiXQ", "\u00e9"])
def test_a_cursor_that_no_list_gave_out_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(cursor)


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(encode_cursor(datetime(2026, 1, 1), uuid.uuid4()))  # naive on purpose


def test_a_page_has_a_next_cursor_only_when_there_is_more() -> None:
    rows = [(datetime.now(UTC), uuid.uuid4()) for _ in range(3)]
    page, cursor = cut_page(rows, 2, lambda row: row)
    assert page == rows[:2]
    assert decode_cursor(cursor) == rows[1]
    assert cut_page(rows, 3, lambda row: row) == (rows, None)
