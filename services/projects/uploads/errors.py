"""Errors of resumable uploads. Clients of the protocol try again after 409 and 423, and after no other 4xx."""

from services.projects.documents.errors import DocumentTooLarge, DuplicateDocument
from services.projects.versions.errors import TooManyVersions
from shared.errors import Conflict, InvalidRequest, PreconditionFailed, QuarryError, UnsupportedMediaType


class UnsupportedProtocol(PreconditionFailed):
    code = "unsupported_tus_version"
    detail = "Send `Tus-Resumable: 1.0.0`; no other version of the protocol is supported."

    def __init__(self) -> None:
        super().__init__()
        self.headers["Tus-Version"] = "1.0.0"


class InvalidUploadHeader(InvalidRequest):
    code = "invalid_upload_header"


class NotAPiece(UnsupportedMediaType):
    code = "unsupported_media_type"
    detail = "The bytes of an upload are sent as `application/offset+octet-stream`, and not compressed."


class WrongOffset(Conflict):
    code = "wrong_offset"
    detail = "The bytes do not begin where the upload ends; ask for its offset."


class LengthKnown(Conflict):
    code = "length_known"
    detail = "The length of the upload is already known."


class UploadTakenOver(QuarryError):
    status = 423
    code = "upload_taken_over"
    detail = "Another request has taken this upload over; ask for its offset."


class ExceedsLength(DocumentTooLarge):
    code = "exceeds_upload_length"
    detail = "There are more bytes than the upload was to have."


class ChecksumMismatch(QuarryError):
    status = 460
    code = "checksum_mismatch"
    detail = "The bytes do not have the checksum that was sent with them; none of them is kept."


class RefusedDuplicate(DuplicateDocument):
    status = 422


class RefusedVersion(TooManyVersions):
    status = 422
