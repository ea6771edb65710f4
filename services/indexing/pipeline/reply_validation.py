"""Checks the replies of the extraction processes: a document may have taken over the process that sends one."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from services.indexing.pipeline import frames
from services.indexing.pipeline.confinement import Limits
from services.indexing.pipeline.documents import SUPPORTED_CONTENT_TYPES, Chunk, ChunkedDocument
from services.indexing.pipeline.errors import ERRORS, CorruptDocument, DocumentTooLarge

LONGEST_CHUNK = 4096

LONGEST_CONTEXT = 1024

_MOST_IN_A_FRAME = frames.CHUNKS
_Position = Annotated[int, Field(ge=0)]
_Number = Annotated[int, Field(ge=0, lt=2**31)]
# Postgres stores no NUL.
_Words = Annotated[str, Field(max_length=300, pattern=r"^[^\x00]*$")]
_Code = Annotated[str, Field(pattern="^[a-z_]{1,40}$")]


@with_config(ConfigDict(extra="forbid"))
class _Location(TypedDict, total=False):
    page: _Number
    slide: _Number
    sheet: _Words
    cell: _Number
    rows: tuple[_Number, _Number]
    lines: tuple[_Number, _Number]
    headings: Annotated[list[_Words], Field(max_length=10)]


_Chunk = tuple[
    _Position,
    _Position,
    _Position | None,
    Annotated[str, Field(max_length=LONGEST_CHUNK)],
    _Location | None,
    Annotated[str, Field(max_length=LONGEST_CONTEXT, pattern=r"^[^\x00]*$")],
]


@dataclass(frozen=True, slots=True)
class _Document:
    content_type: str
    title: _Words | None
    partly_read: Annotated[list[_Code], Field(max_length=10)] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Failure:
    code: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class _Frame:
    chunks: Annotated[list[_Chunk], Field(max_length=_MOST_IN_A_FRAME)] | None = None
    document: _Document | None = None
    failure: _Failure | None = None


_FRAME = TypeAdapter(_Frame)


class Answer:
    """Assembles the frames of one reply."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._chunks: list[Chunk] = []
        self._end = 0

    def take(self, payload: bytes) -> None:
        """A frame that is not the last.

        Raises:
            CorruptDocument: it is not part of a reply.
        """
        for piece in _parsed(payload).chunks or ():
            self._add(*piece)

    def end(self, payload: bytes) -> ChunkedDocument:
        """The document, with the last frame.

        Raises:
            ExtractionError: The failure it reports, or `CorruptDocument` if it is no valid reply.
        """
        parsed = _parsed(payload)
        if parsed.failure is not None:
            reported = ERRORS.get(parsed.failure.code, CorruptDocument)
            raise reported(parsed.failure.kind, detail=parsed.failure.detail)
        document = parsed.document
        if document is None or document.content_type not in SUPPORTED_CONTENT_TYPES or not self._chunks:
            raise CorruptDocument(detail="inconsistent answer")
        return ChunkedDocument(document.content_type, document.title, self._chunks, tuple(document.partly_read))

    def _add(self, start: int, end: int, page: int | None, text: str, location: _Location | None, context: str) -> None:
        if not self._end <= start < end <= self._limits.max_characters or end - start != len(text) or "\0" in text:
            raise CorruptDocument(detail="inconsistent answer")
        if len(self._chunks) >= self._limits.max_chunks:
            raise DocumentTooLarge(detail=f"more than {self._limits.max_chunks} chunks")
        self._end = end
        self._chunks.append(Chunk(len(self._chunks), start, end, text, page, location, context))


def _parsed(payload: bytes) -> _Frame:
    try:
        return _FRAME.validate_json(payload, strict=True)
    except ValidationError as error:
        raise CorruptDocument(detail=f"malformed answer: {error.error_count()} errors") from error
