"""Events of the notifier, stream `events.notifier`."""

import uuid
from typing import ClassVar

from pydantic import Field

from shared.events.envelope import Event


class FeedPurged(Event):
    """No feed holds anything that people wrote about a deleted document, nor a run that was given text of it. The
    envelope's `sequence` is the document's revision with which it was deleted.

    Sent: once, when both the deletion and indexing's `IndexPurged` have been applied.

    For: projects, which concludes a document's deletion when all services have told.
    """

    type: ClassVar[str] = "notifier.document.purged.v1"
    subject_field: ClassVar[str] = "document_id"

    project_id: uuid.UUID
    """The document's project."""
    document_id: uuid.UUID
    """The deleted document."""
    entries: int = Field(ge=0)
    """Entries of the project's feed that a name, title or reason was removed from; what happened, and when, stays."""
