"""A cursor counts for the query it was given out for, and is nothing else."""

import base64

import orjson
import pytest

from services.indexing.search import cursors
from shared.pagination import InvalidCursor

QUERY = cursors.fingerprint("project", "words", "hybrid", None)


def made(value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


def test_a_cursor_leads_back_to_its_depth() -> None:
    assert cursors.decode(cursors.encode(20, QUERY), QUERY) == 20
    assert cursors.decode(None, QUERY) == 0


@pytest.mark.parametrize(
    "cursor",
    [
        "", "?", "a", "é", made({}), made([1]), made([1, 2, 3]), made(["1", QUERY]), made([True, QUERY]),
        made([0, QUERY]), made([-5, QUERY]), made([1000, QUERY]), made([2**60, QUERY]),
        cursors.encode(20, cursors.fingerprint("project", "other words", "hybrid", None)),
    ],
)  # fmt: skip
def test_anything_else_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        cursors.decode(cursor, QUERY)
