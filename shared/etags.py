"""Revisions as entity tags (RFC 9110, section 8.8.3) and the conditions clients put on them (section 13.1.1)."""

from shared.errors import PreconditionFailed, PreconditionRequired


def etag(revision: int) -> str:
    return f'"{revision}"'


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
    if if_match is None or if_match.strip() == "*":
        return
    if etag(revision) not in (tag.strip() for tag in if_match.split(",")):
        raise PreconditionFailed
