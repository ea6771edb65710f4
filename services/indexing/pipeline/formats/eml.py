"""E-mail messages (.eml, RFC 5322 and MIME) to plain text: subject, people, date, body, names of attachments.

Of alternatives for one body the plain text counts, or else the page; what of a message is a picture or another file is
an attachment, and messages within the message follow it, each under its subject. What a damaged message still has is
read.
"""

import binascii
import re
from collections.abc import Iterator
from contextlib import suppress
from email import message_from_bytes
from email.errors import (
    CloseBoundaryNotFoundDefect,
    HeaderParseError,
    InvalidBase64CharactersDefect,
    InvalidBase64LengthDefect,
    NoBoundaryInMultipartDefect,
    StartBoundaryNotFoundDefect,
)
from email.header import decode_header
from email.message import Message
from email.utils import parsedate_to_datetime

from services.indexing.pipeline.documents import EML, Extracted
from services.indexing.pipeline.errors import CorruptDocument, EmptyDocument, UnsupportedContentType
from services.indexing.pipeline.formats import html, text
from services.indexing.pipeline.formats.text_builder import Kind, TextBuilder

DAMAGED_PART = "damaged_part"

_DAMAGE = (
    CloseBoundaryNotFoundDefect,
    InvalidBase64CharactersDefect,
    InvalidBase64LengthDefect,
    NoBoundaryInMultipartDefect,
    StartBoundaryNotFoundDefect,
)
# Messages in messages in a message; the innermost are attachments.
_DEEPEST = 8
_MOST_PARTS = 10_000
_HEADER_CHARACTERS = 4_000
_SHOWN_HEADERS = ("From", "To", "Cc", "Date")
_SPACES = re.compile(r"\s+")


def extract(content: memoryview, *, max_characters: int) -> Extracted:
    """Read a message.

    Raises:
        ExtractionError: It has more parts inside each other than can be read, no text, or too much of it.
    """
    try:
        message = message_from_bytes(bytes(content))
    except RecursionError as error:
        raise CorruptDocument("message", detail="parts within parts") from error
    reading = _Reading(TextBuilder(max_characters))
    reading.read(message, 0)
    partly_read = [DAMAGED_PART] if reading.damaged else []
    return reading.text.extracted(EML, _header(message, "Subject"), partly_read=partly_read)


def warm_up() -> None:
    """Let the library load its parsers and decoders."""
    for encoding, body in (("quoted-printable", b"caf=C3=A9"), ("base64", b"Y2Fmw6k=")):
        head = b"Subject: =?utf-8?q?caf=C3=A9?=\nDate: Thu, 1 Jan 1970 00:00:00 +0000\nContent-Transfer-Encoding: "
        extract(memoryview(head + encoding.encode() + b"\n\n" + body), max_characters=1000)


class _Reading:
    def __init__(self, builder: TextBuilder) -> None:
        self.text = builder
        self._left = _MOST_PARTS
        self.damaged = False

    def read(self, message: Message, depth: int) -> None:
        self.text.add(Kind.HEADING, _header(message, "Subject"), level=depth + 1)
        for name in _SHOWN_HEADERS:
            if value := _header(message, name):
                self.text.add(Kind.LINE, f"{name}: {_date(value) if name == 'Date' else value}")
        attached, forwarded = list[str](), list[Message]()
        for part in self._parts(message):
            content_type = part.get_content_type()
            name = _decoded(part.get_filename() or "")
            if content_type == "message/rfc822" and depth < _DEEPEST and _inner(part) is not None:
                forwarded.append(part)
            elif part.get_content_disposition() == "attachment" or not content_type.startswith(("text/", "multipart/")):
                attached.append(name or content_type)
            else:
                self._read_body(part, content_type)
                attached += [name] if name else []
        if attached:
            self.text.add(Kind.PROSE, "Attachments: " + ", ".join(attached))
        for part in forwarded:
            inner = _inner(part)
            if inner is not None:
                self.read(inner, depth + 1)

    def _parts(self, message: Message) -> Iterator[Message]:
        """The parts that are shown, in order. What is inside another message is not."""
        waiting = [message]
        while waiting:
            part = waiting.pop()
            self._left -= 1
            if self._left < 0:
                raise CorruptDocument("message", detail=f"more than {_MOST_PARTS} parts")
            inner = part.get_payload()
            self._note_damage(part)
            if part.get_content_maintype() != "multipart" or not isinstance(inner, list):
                yield part
            elif part.get_content_subtype() == "alternative":
                waiting += _best(inner)
            else:
                waiting += reversed([one for one in inner if isinstance(one, Message)])

    def _read_body(self, part: Message, content_type: str) -> None:
        try:
            decoded = _text_of(part)
            extracted = html.extract(decoded) if content_type == "text/html" else text.extract_plain(decoded)
        except (EmptyDocument, UnsupportedContentType):
            return
        finally:
            self._note_damage(part)
        self.text.embed(extracted)

    def _note_damage(self, part: Message) -> None:
        self.damaged = self.damaged or any(isinstance(defect, _DAMAGE) for defect in part.defects)


def _best(alternatives: list[Message | str]) -> list[Message]:
    """One of the alternatives: plain text that says something, or a page, or the last one, which is the richest."""
    parts = [part for part in alternatives if isinstance(part, Message)]
    plain = next((part for part in parts if part.get_content_type() == "text/plain" and _text_of(part).strip()), None)
    page = next((part for part in parts if part.get_content_type() in {"text/html", "multipart/related"}), None)
    best = plain or page or (parts[-1] if parts else None)
    # Invitations and the like are alternatives as well, and no other form of the body.
    return [] if best is None else [best]


def _text_of(part: Message) -> str:
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else b""
    charset = part.get_param("charset")
    try:
        return text.decode(content, charset if isinstance(charset, str) else "")
    except UnsupportedContentType:
        return ""


def _inner(part: Message) -> Message | None:
    payload = part.get_payload()
    first = payload[0] if isinstance(payload, list) and payload else None
    if not isinstance(first, Message):
        return None
    if not first.keys() and str(part.get("Content-Transfer-Encoding", "")).strip().lower() == "base64":
        # The standard forbids it, and programs do it.
        encoded = first.get_payload()
        with suppress(ValueError, RecursionError):
            return message_from_bytes(binascii.a2b_base64(encoded if isinstance(encoded, str) else ""))
    return first


def _header(message: Message, name: str) -> str:
    return _decoded(str(message.get(name, "")))


def _decoded(value: str) -> str:
    """A header as it is read: its encoded words (RFC 2047) decoded, on one line."""
    value = value[:_HEADER_CHARACTERS]
    try:
        pieces = decode_header(value)
    except (HeaderParseError, binascii.Error, ValueError):
        pieces = [(value, None)]
    parts = []
    for piece, charset in pieces:
        if isinstance(piece, str):
            parts.append(piece.encode("ascii", "surrogateescape").decode("utf-8", "replace") if _raw(piece) else piece)
            continue
        try:
            parts.append(text.decode(piece, charset or ""))
        except UnsupportedContentType:
            parts.append(piece.decode("ascii", "replace"))
    return _SPACES.sub(" ", "".join(parts)).strip()


def _raw(value: str) -> bool:
    """Whether bytes that are no ASCII stand in it as they came."""
    return any("\udc80" <= character <= "\udcff" for character in value)


def _date(value: str) -> str:
    """The moment as ISO 8601 has it, in the sender's time."""
    try:
        return f"{parsedate_to_datetime(value):%Y-%m-%d %H:%M %z}".strip()
    except (ValueError, TypeError, IndexError, OverflowError):
        return value
