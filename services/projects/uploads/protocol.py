"""What clients send in the headers of tus 1.0.0 (https://tus.io/protocols/resumable-upload)."""

import binascii
import hashlib
import hmac
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Any, Final, cast, get_args

from services.projects.documents.errors import InvalidName
from services.projects.documents.names import MAX_SENT_NAME, clean_declared_type, clean_name
from services.projects.documents.upload import DuplicatesPolicy
from services.projects.metadata import parse_metadata
from services.projects.uploads.errors import ChecksumMismatch, InvalidUploadHeader

VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,creation-with-upload,creation-defer-length,termination,checksum,expiration"
ALGORITHMS: Final = ("sha1", "sha256")
PIECE: Final = "application/offset+octet-stream"


@dataclass(frozen=True, slots=True)
class Declared:
    """What `Upload-Metadata` says of the document."""

    name: str
    content_type: str
    metadata: dict[str, Any] | None
    duplicates: DuplicatesPolicy | None

    @classmethod
    def of(cls, header: str) -> "Declared":
        """`filename` and `filetype` are what browsers know of a file; `name`, `metadata`, a JSON object, and
        `duplicates` mean what they mean in other uploads, and `name` comes first. Other keys are the client's own.

        Raises:
            InvalidUploadHeader, InvalidName, InvalidMetadata: not acceptable.
        """
        pairs = _pairs(header)
        name = pairs.get("name") or pairs.get("filename")
        if not name or len(name) > MAX_SENT_NAME:
            raise InvalidName("The upload needs `filename` or `name` in its `Upload-Metadata`.")
        duplicates = pairs.get("duplicates")
        if duplicates is not None and duplicates not in get_args(DuplicatesPolicy):
            raise InvalidUploadHeader("`duplicates` must be `reject`, `link` or `new_version`.")
        return cls(
            name=clean_name(name),
            content_type=clean_declared_type(pairs.get("filetype") or pairs.get("type")),
            metadata=parse_metadata(pairs["metadata"]) if "metadata" in pairs else None,
            duplicates=cast("DuplicatesPolicy | None", duplicates),
        )


def _pairs(header: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in header.split(",") if header else ():
        key, _, value = part.strip().partition(" ")
        if not key or key in pairs:
            raise InvalidUploadHeader("`Upload-Metadata` has a key twice, or a pair without key.")
        pairs[key] = _decoded(value.strip(), "Upload-Metadata").decode("utf-8", "replace")
    return pairs


def _decoded(value: str, header: str) -> bytes:
    try:
        return b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidUploadHeader(f"A value of `{header}` is not Base64.") from error


@dataclass(slots=True)
class Checksum:
    """`Upload-Checksum`, compared with what arrives."""

    algorithm: str
    wanted: bytes
    _digest: "hashlib._Hash" = field(init=False)

    def __post_init__(self) -> None:
        self._digest = hashlib.new(self.algorithm, usedforsecurity=False)

    @classmethod
    def of(cls, header: str) -> "Checksum":
        """Raises InvalidUploadHeader: malformed, or of an unknown algorithm."""
        algorithm, _, value = header.strip().partition(" ")
        if algorithm not in ALGORITHMS:
            raise InvalidUploadHeader(f"`Upload-Checksum` must be of {' or '.join(ALGORITHMS)}.")
        return cls(algorithm, _decoded(value.strip(), "Upload-Checksum"))

    def update(self, chunk: bytes) -> None:
        self._digest.update(chunk)

    def check(self) -> None:
        """Raises ChecksumMismatch."""
        if not hmac.compare_digest(self._digest.digest(), self.wanted):
            raise ChecksumMismatch
