"""The frames between the extraction pool and its processes: four bytes of length, big-endian, then JSON.

JSON and not pickle: the process that writes a reply has read an untrusted file and may no longer be running our code. A
reply is many small frames, so that the event loop on the other side never decodes a book at once.

    pool -> process   {"name", "declared_type", "gives_way"}, and with its first byte the descriptor of the document
                      (SCM_RIGHTS); `CANCEL`, when no caller waits for the reply any more, which then ends soon; `PAUSE`
                      and `GO_ON`, meanwhile
    process -> pool   {"layers", "missing"} once, when it is ready, then for each request any number of
                      {"chunks": [[start, end, page, text, location, context], ...]}, then {"document":
                      {"content_type", "title", "partly_read": [code, ...]}} or {"failure": {"code", "kind", "detail"}}

    pool -> template  `ORDER`s: `START` and the number of the new process, with the descriptors of its requests and its
                      replies; `KILL` and the number of a process

Also, `TAKES_LONG` comes back through the requests' socket, before the last frame, for a document that takes long.
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import islice

import orjson

from services.indexing.pipeline.confinement import Confinement
from services.indexing.pipeline.documents import Chunk, Extracted
from services.indexing.pipeline.errors import ExtractionError

LENGTH = struct.Struct(">I")
ORDER = struct.Struct(">cI")
START, KILL = b"+", b"-"
MAX_BYTES = 1024 * 1024
CHUNKS = 64
TAKES_LONG = b"!"
CANCEL = LENGTH.pack(0)
# No request is that long.
PAUSE = LENGTH.pack(2**32 - 1)
GO_ON = LENGTH.pack(2**32 - 2)

_DETAIL_CHARACTERS = 300
_MORE = b'{"chunks":'


def frame(payload: bytes) -> bytes:
    return LENGTH.pack(len(payload)) + payload


def ready(confinement: Confinement) -> bytes:
    return orjson.dumps(confinement)


def request(name: str, declared_type: str, *, gives_way: bool = False) -> bytes:
    """`gives_way`: to all other work of the machine, from the beginning."""
    # A name is only a hint: what JSON cannot carry is dropped from it.
    name = name.encode(errors="ignore").decode()
    return orjson.dumps({"name": name, "declared_type": declared_type, "gives_way": gives_way})


def gives_way(request: bytes) -> bool:
    return bool(orjson.loads(request or b"{}").get("gives_way"))


def success(extracted: Extracted, chunks: Sequence[Chunk]) -> Iterator[bytes]:
    """The payloads that describe a document."""
    pieces = ([chunk.start, chunk.end, chunk.page, chunk.text, chunk.location, chunk.context] for chunk in chunks)
    while batch := list(islice(pieces, CHUNKS)):
        yield orjson.dumps({"chunks": batch})
    document = {
        "content_type": extracted.content_type,
        "title": extracted.title,
        "partly_read": extracted.partly_read,
    }
    yield orjson.dumps({"document": document})


def failure(error: ExtractionError) -> bytes:
    # A parser's message may hold anything, including lone surrogates.
    detail = ascii(error.detail)[1:-1][:_DETAIL_CHARACTERS]
    return orjson.dumps({"failure": {"code": error.code, "kind": error.kind, "detail": detail}})


def is_last(payload: bytes) -> bool:
    """Whether the reply ends with it."""
    return not payload.startswith(_MORE)
