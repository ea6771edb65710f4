"""What a model is asked, taken apart again, as a model would read it."""

import re
from typing import Any

_PASSAGE = re.compile(r"^\[(\w+)\] passage (\d+), from: [^\n]*\n(.*?)\n\[\1\] end$", re.MULTILINE | re.DOTALL)
_QUESTION = re.compile(r"^\[(\w+)\] question\n(.*?)\n\[\1\] end$", re.MULTILINE | re.DOTALL)


def passages_of(body: dict[str, Any]) -> dict[int, str]:
    """Texts of the passages, by number."""
    return {int(found[2]): found[3] for found in _PASSAGE.finditer(_user(body))}


def question_of(body: dict[str, Any]) -> str:
    found = _QUESTION.search(_user(body))
    assert found is not None
    return found[2]


def _user(body: dict[str, Any]) -> str:
    (content,) = (message["content"] for message in body["messages"] if message["role"] == "user")
    return str(content)
