"""A cursor counts for the query it was given out for, and is nothing else."""

import base64
import uuid

import pytest

from services.indexing.search import cursors
from services.indexing.vectors.points import MAX_WINDOW, Hit
from shared.pagination import InvalidCursor

DOCUMENT = uuid.UUID(int=7)
QUERY = cursors.fingerprint("project", "words", "hybrid", None)


def made(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def hit(index: int, generation: int = 1) -> Hit:
    return Hit(uuid.uuid4(), DOCUMENT, 1, generation, index, 0.5)


def test_a_hit_is_the_same_in_every_generation() -> None:
    assert cursors.mark(hit(3, generation=1)) == cursors.mark(hit(3, generation=2))
    assert len({cursors.mark(hit(index)) for index in range(1000)}) == 1000


def test_a_cursor_holds_what_was_shown() -> None:
    shown = {cursors.mark(hit(index)) for index in range(20)}
    assert cursors.decode(cursors.encode(shown, QUERY), QUERY) == shown
    assert cursors.decode(None, QUERY) == frozenset()


def test_the_longest_cursor_is_taken_back() -> None:
    shown = range(MAX_WINDOW)
    cursor = cursors.encode(shown, QUERY)
    assert len(cursor) <= cursors.MAX_LENGTH
    assert cursors.decode(cursor, QUERY) == set(shown)


@pytest.mark.parametrize(
    "cursor",
    [
        "", "?", "a", "é", "A" * 12, made(b""), made(QUERY), made(QUERY + b"abc"), made(QUERY + b"abcde"),
        made(QUERY + b"abcd" * (MAX_WINDOW + 1)), made(b"abcd" + QUERY), cursors.encode([1], QUERY) + "!",
        cursors.encode([20], cursors.fingerprint("project", "other words", "hybrid", None)),
    ],
)  # fmt: skip
def test_anything_else_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        cursors.decode(cursor, QUERY)
