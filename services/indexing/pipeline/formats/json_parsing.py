"""JSON as it was written: digits as texts, members in order."""

import json
from typing import Any

NO_JSON = (ValueError, RecursionError)
"""What parsing raises for what is no JSON, or is nested too deep."""


class Members(tuple[tuple[str, Any], ...]):
    """An object: its members in order, also those of the same name."""

    __slots__ = ()


def parsed(decoded: str) -> Any:
    """Values, of which numbers are texts and objects are `Members`.

    Raises:
        ValueError: It is no JSON.
        RecursionError: It is nested too deep.
    """
    return json.loads(decoded, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=Members)
