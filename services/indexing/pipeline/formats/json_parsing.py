"""JSON as it was written: digits as texts, members in order."""

import json
import re
from typing import Any

NO_JSON = (ValueError, RecursionError)
"""What parsing raises for what is no JSON, or is nested too deep."""

# What is not closed goes on to the end, so that nothing is looked at twice.
_STRING = r'"(?:[^"\\]|\\.)*+(?:"|\Z)'
_COMMENT = re.compile(rf"({_STRING})|//[^\n]*+|/\*(?:.*?\*/|.*+)", re.DOTALL)
_WORD = re.compile(r"\S")
_LAST_COMMA = re.compile(rf"({_STRING})|,(?=\s*+[}}\]])", re.DOTALL)


class Members(tuple[tuple[str, Any], ...]):
    """An object: its members in order, also those of the same name."""

    __slots__ = ()


_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=Members, strict=False)


def parsed(decoded: str) -> Any:
    """Values, of which numbers are texts and objects are `Members`.

    Raises:
        ValueError: It is no JSON.
        RecursionError: It is nested too deep.
    """
    return _DECODER.decode(decoded)


def is_json_with_comments(decoded: str) -> bool:
    """Whether it is what settings of programs are written in (comments, last commas), or one value after another."""
    bare = _LAST_COMMA.sub(r"\1", _COMMENT.sub(r"\1", decoded)).strip()
    place = 0
    try:
        while place < len(bare):
            _, place = _DECODER.raw_decode(bare, place)
            if following := _WORD.search(bare, place):
                place = following.start()
    except NO_JSON:
        return False
    return True
