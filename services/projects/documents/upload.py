"""Receiving one document: a raw body, or the `file` of a multipart form, streamed into a blob in one pass.

Memory is constant: bytes go from the socket to `IncomingBlob.write` and nowhere else; the fields of a form are bounded.
Limits apply while bytes arrive, to what is sent and to what it decompresses to. A form is refused at its first error,
not at its end; unknown parts are read and dropped.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args
from uuid import UUID

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.projects.blobs.store import IncomingBlob
from services.projects.documents import content_disposition
from services.projects.documents.errors import (
    DocumentTooLarge,
    EmptyDocument,
    EncodedPart,
    InvalidName,
    InvalidUpload,
    MalformedUpload,
)
from services.projects.documents.names import clean_declared_type, clean_name
from services.projects.metadata import parse_metadata
from shared import content_coding
from shared.errors import TooLarge

MAX_FIELD_BYTES = 64 * 1024
MAX_PARTS = 64
# What a form may hold besides the file: boundaries, part headers, fields, unknown parts, what follows the last part.
FORM_OVERHEAD_BYTES = 1024 * 1024

DuplicatesPolicy = Literal["reject", "link", "new_version"]

_POLICIES: Final = get_args(DuplicatesPolicy)
_FIELDS = frozenset({b"file", b"name", b"metadata", b"duplicates", b"batch"})
_UNKNOWN = ""
# Encodings that RFC 7578, section 4.7, deprecates; `binary`, `8bit` and `7bit` change nothing.
_RECODED = frozenset({b"base64", b"quoted-printable"})


@dataclass(slots=True)
class UploadRequest:
    """What a client declares about an upload before or beside its bytes; a form's fields override the query. What is
    None was not said."""

    content_type: str | None
    content_length: int | None
    chunks: AsyncIterator[bytes]
    content_encoding: str | None = None
    user_agent: str = ""
    name: str | None = None
    metadata: dict[str, Any] | None = None
    duplicates: DuplicatesPolicy | None = None
    batch_id: UUID | None = None

    @property
    def is_form(self) -> bool:
        return (self.content_type or "").partition(";")[0].strip().lower() == "multipart/form-data"


async def receive(request: UploadRequest, blob: IncomingBlob, *, limit: int) -> None:
    """Write the document's bytes to `blob`; complete `request` with the name, type and fields of a form.

    Args:
        limit: the most bytes a document may have.

    Raises:
        DocumentTooLarge: more than `limit`, declared, received or decompressed.
        UnsupportedContentCoding, MalformedContentCoding, ExpandsTooFar: compressed in a way that is not accepted.
        EmptyDocument, InvalidName, InvalidUpload, InvalidMetadata, MalformedUpload: not acceptable.
    """
    if request.name is not None:
        request.name = clean_name(request.name)
    if content_coding.is_compressed(request.content_encoding):
        request.chunks = content_coding.decoded(request.chunks)
    overhead = FORM_OVERHEAD_BYTES if request.is_form else 0
    if request.content_length is not None and request.content_length > limit + overhead:
        raise DocumentTooLarge
    if request.is_form:
        await _receive_form(request, blob, limit)
    else:
        if request.name is None:
            raise InvalidName
        async for chunk in request.chunks:
            await _store(blob, chunk, limit)
    request.content_type = clean_declared_type(request.content_type)
    if blob.size == 0:
        raise EmptyDocument


async def _receive_form(request: UploadRequest, blob: IncomingBlob, limit: int) -> None:
    form = _Form(request)
    received = 0
    async for chunk in request.chunks:
        received += len(chunk)
        if received > limit + FORM_OVERHEAD_BYTES:
            raise DocumentTooLarge
        form.feed(chunk)
        for piece in form.take():
            await _store(blob, piece, limit)
        if received - blob.size > FORM_OVERHEAD_BYTES:
            raise DocumentTooLarge("The form contains too much besides its file.")
    form.finish()


async def _store(blob: IncomingBlob, piece: bytes | memoryview, limit: int) -> None:
    if blob.size + len(piece) > limit:
        raise DocumentTooLarge
    await blob.write(piece)


class _Form:
    """Feeds the streaming parser; its callbacks collect pieces of the file and whole small fields."""

    def __init__(self, request: UploadRequest) -> None:
        self._request = request
        # The only client that percent-encodes a whole name, spaces as `%20` too, identifies itself.
        self._percent_encoded = "aiohttp/" in request.user_agent
        _, options = parse_options_header(request.content_type)
        boundary = options.get(b"boundary", b"")
        request.content_type = None
        if not boundary:
            raise MalformedUpload
        self._pieces: list[memoryview] = []
        self._parts = 0
        self._files = 0
        self._field = ""
        self._value = bytearray()
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._complete = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_begin": self._on_header_begin,
                    "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise MalformedUpload from error

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedUpload from error

    def take(self) -> list[memoryview]:
        """Pieces of the file since the last call."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def finish(self) -> None:
        if not self._complete:
            raise MalformedUpload("The form ends before its last boundary.")
        if self._files != 1:
            raise InvalidUpload

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidUpload(f"The form has more than {MAX_PARTS} parts.")
        self._headers = {}
        self._value = bytearray()

    def _on_header_begin(self) -> None:
        self._header = (bytearray(), bytearray())

    def _on_header_end(self) -> None:
        self._headers[bytes(self._header[0]).lower()] = bytes(self._header[1])

    def _on_headers_finished(self) -> None:
        disposition, options = content_disposition.parse(self._headers.get(b"content-disposition", b""))
        known = disposition == b"form-data" and options.get(b"name") in _FIELDS
        self._field = options[b"name"].decode("ascii") if known else _UNKNOWN
        if self._field != _UNKNOWN and self._headers.get(b"content-transfer-encoding", b"").strip().lower() in _RECODED:
            raise EncodedPart
        if self._field == "file":
            self._files += 1
            if self._files > 1:
                raise InvalidUpload
            self._request.content_type = self._headers.get(b"content-type", b"").decode("latin-1")
            if self._request.name is None:
                self._request.name = clean_name(
                    content_disposition.file_name(options, percent_encoded=self._percent_encoded)
                )

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field == "file":
            self._pieces.append(memoryview(data)[start:end])
        elif self._field == _UNKNOWN:
            pass
        elif len(self._value) + end - start > MAX_FIELD_BYTES:
            raise TooLarge("A field of the form is too large.")
        else:
            self._value += data[start:end]

    def _on_part_end(self) -> None:
        if self._field == "name":
            self._request.name = clean_name(self._value.decode("utf-8", "replace"))
        elif self._field == "metadata":
            self._request.metadata = parse_metadata(bytes(self._value))
        elif self._field == "duplicates":
            self._request.duplicates = _policy(self._value.decode("utf-8", "replace"))
        elif self._field == "batch":
            self._request.batch_id = _batch_id(self._value.decode("utf-8", "replace"))

    def _on_end(self) -> None:
        self._complete = True


def _policy(value: str) -> DuplicatesPolicy:
    if value in _POLICIES:
        return cast("DuplicatesPolicy", value)
    raise InvalidUpload("`duplicates` must be `reject`, `link` or `new_version`.")


def _batch_id(value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError as error:
        raise InvalidUpload("`batch` must be the id of a batch.") from error
