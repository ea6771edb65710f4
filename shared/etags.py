"""Revisions as entity tags (RFC 9110, section 8.8.3) and the conditions clients put on them (section 13.1.1)."""

from typing import Annotated

from fastapi import Header

from shared.errors import PreconditionFailed, PreconditionRequired

IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=512)]


def etag(revision: int) -> str:
    return f'"{revision}"'


def names(header: str, tag: str) -> bool:
    """Whether a list of tags has this one by weak comparison, as `If-None-Match` requires."""
    return header.strip() == "*" or tag.removeprefix("W/") in (part.removeprefix("W/") for part in _tags(header))


def names_strongly(header: str, tag: str) -> bool:
    """Whether a list of tags has this one by strong comparison, as `If-Match` requires."""
    return header.strip() == "*" or (not tag.startswith("W/") and tag in _tags(header))


def require_match(if_match: str | None, revision: int) -> None:
    """The client must have seen `revision`.

    Raises:
        PreconditionRequired: there is no `If-Match`.
        PreconditionFailed: it names other revisions.
    """
    if if_match is None:
        raise PreconditionRequired
    check_match(if_match, revision)


def check_match(if_match: str | None, revision: int) -> None:
    """If the client names revisions, `revision` must be one of them.

    Raises:
        PreconditionFailed: it names other revisions.
    """
    if if_match is not None and not names_strongly(if_match, etag(revision)):
        raise PreconditionFailed


def _tags(header: str) -> list[str]:
    """None of our tags has a comma in it."""
    return [part.strip() for part in header.split(",")]
