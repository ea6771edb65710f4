"""`Content-Disposition` (RFC 6266, RFC 7578): the file names that clients send in forms, and the one we send back.

Clients write a name that is not plain ASCII in different ways, so each of these is read:

    browsers, httpx, Node    filename="größe %22x%22.txt"         UTF-8; only `"`, CR and LF are percent-encoded
    curl, Go, urllib3        filename="größe \\"x\\".txt"           UTF-8; backslash before `"` and backslash
    aiohttp                  filename="gr%C3%B6%C3%9Fe%20x.txt"   all of it percent-encoded
    .NET                     filename="=?utf-8?B?Z3LDtsOfZQ==?="; filename*=utf-8''gr%C3%B6%C3%9Fe
    Java (Spring, Jakarta)   filename="=?UTF-8?Q?gr=C3=B6=C3=9Fe?="
    old clients              Latin-1 as bytes; a whole path of Windows
"""

import binascii
import re
import unicodedata
from email.errors import HeaderParseError
from email.header import decode_header
from typing import Final
from urllib.parse import quote, unquote_to_bytes

_PARAMETER: Final = re.compile(
    rb';\s*([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)\s*=\s*("(?:[^"\\]|\\.)*"|"[^"]*"|[^;]*)', re.DOTALL
)
_QUOTED_PAIR: Final = re.compile(rb'\\(["\\])')
_ENCODED_WORDS: Final = re.compile(r"=\?[^?\s]{1,40}\?[bBqQ]\?[^?]*\?=(?:\s*=\?[^?\s]{1,40}\?[bBqQ]\?[^?]*\?=)*")
_EXTENDED: Final = re.compile(r"([A-Za-z0-9_.:-]{1,40})'[^']*'(.*)", re.DOTALL)
_FORM_ESCAPES: Final = re.compile(r"%(22|0D|0A)", re.IGNORECASE)
_ALL_ENCODED: Final = re.compile(r"(?:[A-Za-z0-9_.~-]|%[0-9A-F]{2})+")
_UNSAFE_IN_PLAIN: Final = re.compile(r'[^\x20-\x7e]|["\\%;]')


def parse(header: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The disposition in lower case and its parameters, unquoted; the first of two with the same name counts."""
    disposition, _, _ = header.partition(b";")
    parameters: dict[bytes, bytes] = {}
    for name, value in _PARAMETER.findall(header[len(disposition) :]):
        quoted = len(value) > 1 and value[:1] == value[-1:] == b'"'
        plain = _QUOTED_PAIR.sub(rb"\1", value[1:-1]) if quoted else value.strip()
        parameters.setdefault(name.lower(), plain)
    return disposition.strip().lower(), parameters


def file_name(parameters: dict[bytes, bytes], *, percent_encoded: bool) -> str:
    """The file name among the parameters of a part, as its sender meant it; empty when there is none.

    Args:
        percent_encoded: the client is known to encode every character that is not a letter or a digit.
    """
    extended = _extended(parameters.get(b"filename*", b""))
    if extended is not None:
        return extended
    text = _text(parameters.get(b"filename", b""))
    if _ENCODED_WORDS.fullmatch(text.strip()):
        return _from_encoded_words(text)
    if percent_encoded or _has_encoded_letters(text):
        decoded = _from_percents(text)
        if decoded is not None:
            return decoded
    return _FORM_ESCAPES.sub(lambda found: chr(int(found[1], 16)), text)


def attachment(name: str) -> str:
    """The header that makes a response a download: `name` for current clients, and its plain ASCII part for old ones
    (RFC 6266, appendix D)."""
    without_marks = "".join(part for part in unicodedata.normalize("NFKD", name) if not unicodedata.combining(part))
    plain = _UNSAFE_IN_PLAIN.sub("_", without_marks)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _text(raw: bytes) -> str:
    """UTF-8 if valid; else Latin-1 as used in practice, which is Windows-1252 (WHATWG, Encoding)."""
    for charset in ("utf-8", "cp1252"):
        try:
            return raw.decode(charset)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


def _extended(raw: bytes) -> str | None:
    """Decodes `charset'language'percent-encoded` (RFC 8187); None for any other form."""
    found = _EXTENDED.fullmatch(raw.decode("latin-1"))
    if found is None:
        return None
    try:
        return unquote_to_bytes(found[2]).decode(found[1])
    except (UnicodeDecodeError, LookupError, ValueError):
        return None


def _from_encoded_words(text: str) -> str:
    """Decodes RFC 2047 encoded words; unchanged when they cannot be read."""
    try:
        parts = [
            part if isinstance(part, str) else part.decode(charset or "ascii") for part, charset in decode_header(text)
        ]
    except (HeaderParseError, UnicodeDecodeError, LookupError, ValueError, binascii.Error):
        return text
    return "".join(parts)


def _has_encoded_letters(text: str) -> bool:
    """No real file is named `%C3%B6`; `a%20b` may well be a file's name."""
    decoded = _from_percents(text)
    return decoded is not None and not decoded.isascii()


def _from_percents(text: str) -> str | None:
    if "%" not in text or not _ALL_ENCODED.fullmatch(text):
        return None
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        return None
