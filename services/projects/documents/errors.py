"""Errors of documents."""

import uuid

from shared.errors import Conflict, InvalidRequest, TooLarge, UnsupportedMediaType


class DocumentTooLarge(TooLarge):
    code = "document_too_large"
    detail = "The document is larger than this installation allows."


class EmptyDocument(InvalidRequest):
    status = 422
    code = "empty_document"
    detail = "The document has no content."


class InvalidName(InvalidRequest):
    status = 422
    code = "invalid_name"
    detail = "The document needs a name: send a file name, or `?name=` with a raw body."


class InvalidUpload(InvalidRequest):
    status = 422
    code = "invalid_upload"
    detail = "The upload needs exactly one part named `file`."


class MalformedUpload(InvalidRequest):
    code = "malformed_upload"
    detail = "The body is not a valid multipart form."


class EncodedPart(UnsupportedMediaType):
    code = "unsupported_transfer_encoding"
    detail = "Send the parts of the form unencoded, without `Content-Transfer-Encoding`."


class UploadAborted(InvalidRequest):
    """The client is gone and never sees it; it ends the request without a row, a blob or a crash in the log."""

    code = "upload_aborted"
    detail = "The upload ended before its content was complete."


class DuplicateDocument(Conflict):
    """The problem document names it (`document_id`)."""

    code = "duplicate_document"
    detail = "A document with the same content is already stored."

    def __init__(self, document_id: uuid.UUID) -> None:
        super().__init__(f"The same content is already stored as document {document_id}.")
        self.members = {"document_id": str(document_id)}


class LinkedDocument(Conflict):
    code = "linked_document"
    detail = "The document is linked to another one, which is indexed for both; ask for that one."


class NotCancellable(Conflict):
    code = "not_cancellable"
    detail = "Only a document that is queued or being indexed can be cancelled."


class NotRetryable(Conflict):
    code = "not_retryable"
    detail = "Only a document whose indexing failed or was cancelled can be retried."


class RangeNotSatisfiable(InvalidRequest):
    status = 416
    code = "range_not_satisfiable"
    detail = "The range lies outside the content."
