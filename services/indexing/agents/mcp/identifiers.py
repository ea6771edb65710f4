"""Ids as tools give and take them: one text that leads to a document, or to a passage of one of its versions.

    <project>/<document>                       the live version
    <project>/<document>/<version>/<chunk>     a passage, as long as that version is the live one

An id gives no rights: whatever it names is looked up as for any other request of the caller.
"""

import re
import uuid
from dataclasses import dataclass
from typing import Final, Self

from shared.errors import NotFound

MAX_LENGTH: Final = 100
_UUID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ID: Final = re.compile(f"({_UUID})/({_UUID})(?:/([0-9]{{1,9}})/([0-9]{{1,9}}))?")


@dataclass(frozen=True, slots=True)
class Identifier:
    """`version` and `chunk` are both None, or neither is."""

    project_id: uuid.UUID
    document_id: uuid.UUID
    version: int | None = None
    chunk: int | None = None

    def __str__(self) -> str:
        document = f"{self.project_id}/{self.document_id}"
        return document if self.version is None else f"{document}/{self.version}/{self.chunk}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The reverse of `str`.

        Raises:
            NotFound: it is none of ours, so it names nothing.
        """
        found = _ID.fullmatch(text)
        if found is None:
            raise NotFound
        project, document, version, chunk = found.groups()
        place = (None, None) if version is None else (int(version), int(chunk))
        return cls(uuid.UUID(project), uuid.UUID(document), *place)
