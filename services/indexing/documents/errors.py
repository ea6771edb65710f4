"""What can go wrong with a document.

ContentUnavailable 503   projects or identity does not respond: transient, not the document's fault
ContentRefused           projects responds with an error about this document: transient, counted
ContentMissing           the version's bytes are no longer stored: permanent
UnknownDocument          an event overtook the upload it is about: delivered again later
VersionReplaced 409      what is named is of a version that is no longer the live one
"""

from shared.errors import Conflict, Unavailable
from shared.handlers import NotYet


class ContentUnavailable(Unavailable):
    detail = "The document's content cannot be fetched right now."


class ContentRefused(Exception):
    """`status` is that of the projects service's response."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the projects service answered {status}")
        self.status = status


class ContentMissing(Exception):
    code = "content_missing"
    message = "The document's content is no longer stored."


class UnknownDocument(NotYet):
    """Raised by a handler, so that its event stays pending."""


class VersionReplaced(Conflict):
    code = "version_replaced"
    detail = "This version of the document was replaced by a newer one."
