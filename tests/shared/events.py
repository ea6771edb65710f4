"""An event that only tests know, on the stream of the schema they borrow."""

import uuid
from typing import ClassVar

from shared.events.envelope import Event


class NoteWritten(Event):
    """Sent by tests, for tests."""

    type: ClassVar[str] = "notifier.note.written.v1"
    subject_field: ClassVar[str] = "note_id"

    note_id: uuid.UUID
