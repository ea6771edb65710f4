"""Words planted in everything of the victim's, and looked for where they must not be."""

import re

import httpx

CANARY = "canary-4f1d"
_PLANTED = re.compile(CANARY + r"-([a-z]+)")


def canary(kind: str) -> str:
    """The word for what is planted in things of one kind; goes into names, addresses and text."""
    return f"{CANARY}-{kind}-"


def found_in(text: str) -> set[str]:
    """The kinds of all canaries in a text; `?` for one whose kind is cut off."""
    kinds = set(_PLANTED.findall(text))
    return kinds if kinds or CANARY not in text else {"?"}


def whole_text(answer: httpx.Response) -> str:
    """Everything a client can read of an answer: status line, headers, body."""
    headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.multi_items())
    return f"{answer.reason_phrase}\n{headers}\n{answer.text}"
