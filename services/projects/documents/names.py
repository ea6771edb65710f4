"""Names of documents and their declared types, as clients send them: shown and compared, never used as a path."""

import re
import unicodedata

from services.projects.documents.errors import InvalidName

MAX_NAME = 255
MAX_SENT_NAME = 1024
"""As sent: with folders, and in a normal form that takes more characters."""
UNKNOWN_TYPE = "application/octet-stream"

# Control characters, surrogates, line and paragraph separators, and characters that reverse the direction of text.
_UNWANTED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
_SEPARATOR = re.compile(r"[/\\]")
_CONTENT_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,127}")
_CHARSET = re.compile(
    r"(?:^|;)\s{0,99}charset\s{0,9}=\s{0,9}(?P<quote>\"?)(?P<name>[a-z0-9_.:+-]{1,40})(?P=quote)\s*(?:;|$)",
    re.IGNORECASE,
)
# What HTTP clients declare by default.
_MEANINGLESS = frozenset({"application/x-www-form-urlencoded", "binary/octet-stream", "application/unknown"})


def clean_name(raw: str, *, cut: bool = True) -> str:
    """The last part of `raw` without control characters, in NFC, at most 255 characters long (an ending is kept).

    Raises:
        InvalidName: nothing is left, or it is too long and cannot be cut.
    """
    # Normalised last: a removed character may have separated two that combine.
    name = unicodedata.normalize("NFC", _UNWANTED.sub("", raw))
    name = _SEPARATOR.split(name.rstrip("/\\ "))[-1].strip()
    if len(name) > MAX_NAME:
        if not cut:
            raise InvalidName(f"The name has more than {MAX_NAME} characters.")
        stem, dot, ending = name.rpartition(".")
        kept = dot + ending if stem and len(ending) <= 16 else ""
        name = name[: MAX_NAME - len(kept)] + kept
    if not name.strip("."):
        raise InvalidName
    return name


def wanted_name(raw: str) -> str | None:
    """The name of a document that was uploaded as `raw`; None when no document can have that name."""
    try:
        return clean_name(raw)
    except InvalidName:
        return None


def clean_content_type(raw: str | None) -> str:
    """The declared type in lower case without parameters; a hint, since indexing looks at the bytes."""
    declared = (raw or "").partition(";")[0].strip().lower()
    return declared if _CONTENT_TYPE.fullmatch(declared) and declared not in _MEANINGLESS else UNKNOWN_TYPE


def clean_declared_type(raw: str | None) -> str:
    """The content type, and after `; charset=` the encoding that was declared for a text, in lower case."""
    content_type = clean_content_type(raw)
    charset = _CHARSET.search((raw or "").partition(";")[2])
    is_text = content_type.startswith("text/") or content_type.endswith(("/xml", "+xml"))
    return f"{content_type}; charset={charset['name'].lower()}" if charset is not None and is_text else content_type
