"""The frames between the extraction pool and its processes: four bytes of length, big-endian, then JSON.

JSON and not pickle: whoever writes an answer has read an untrusted file and may no longer be running our code.

    pool -> process   {"path", "name", "declared_type"}
    process -> pool   {} once, when it is ready, then for each request {"extracted": Extracted} or
                      {"failure": {"code", "kind", "detail"}}
"""

import struct

import orjson

from services.indexing.pipeline.documents import Extracted
from services.indexing.pipeline.errors import ExtractionError

LENGTH = struct.Struct(">I")
READY = b"{}"

_DETAIL_CHARACTERS = 300


def frame(payload: bytes) -> bytes:
    return LENGTH.pack(len(payload)) + payload


def request(path: str, name: str, declared_type: str) -> bytes:
    # A name is only a hint: what JSON cannot carry is dropped from it.
    name = name.encode(errors="ignore").decode()
    return orjson.dumps({"path": path, "name": name, "declared_type": declared_type})


def success(extracted: Extracted) -> bytes:
    return orjson.dumps({"extracted": extracted})


def failure(error: ExtractionError) -> bytes:
    # A parser's words may hold anything, lone surrogates included.
    detail = ascii(error.detail)[1:-1][:_DETAIL_CHARACTERS]
    return orjson.dumps({"failure": {"code": error.code, "kind": error.kind, "detail": detail}})
