"""Metadata that clients attach to projects and documents: a JSON object that every store can hold unchanged.

Limits: 16 KiB as compact JSON, 8 levels. Refused: NaN and infinities, integers beyond 64 bits, NUL characters and lone
surrogates; at least one of Postgres, orjson and the vector store cannot hold them.
"""

import math
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator

from shared.errors import InvalidRequest

MAX_BYTES = 16 * 1024
MAX_DEPTH = 8


class InvalidMetadata(InvalidRequest):
    status = 422
    code = "invalid_metadata"
    detail = "The metadata is not valid."


def check_metadata(value: dict[str, Any]) -> dict[str, Any]:
    """`value` itself, when it is within the limits.

    Raises:
        ValueError: its message, which clients see, says what is wrong.
    """
    waiting: list[tuple[Any, int]] = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"metadata is nested deeper than {MAX_DEPTH} levels")
        if isinstance(item, dict):
            waiting.extend((part, depth + 1) for part in item.values() if isinstance(part, dict | list))
            scalars = [*item, *item.values()]
        else:
            waiting.extend((part, depth + 1) for part in item if isinstance(part, dict | list))
            scalars = item
        for scalar in scalars:
            _check_scalar(scalar)
    try:
        size = len(orjson.dumps(value))
    except TypeError as error:
        raise ValueError("metadata contains a number beyond 64 bits or text that is not valid Unicode") from error
    if size > MAX_BYTES:
        raise ValueError(f"metadata is larger than {MAX_BYTES} bytes")
    return value


def parse_metadata(text: str | bytes) -> dict[str, Any]:
    """Metadata sent as text.

    Raises:
        InvalidMetadata: not a JSON object, or beyond the limits.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidMetadata("The metadata is not JSON.") from error
    if not isinstance(value, dict):
        raise InvalidMetadata("The metadata is not a JSON object.")
    try:
        return check_metadata(value)
    except ValueError as error:
        raise InvalidMetadata(f"The {error}.") from error


Metadata = Annotated[dict[str, Any], AfterValidator(check_metadata)]


def _check_scalar(value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("metadata contains a number that is not finite")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("metadata contains a NUL character")
