"""What reading one document may cost: characters of text, parts, and the bytes they unpack to.

Documents inside a document share its limits.
"""

from dataclasses import dataclass
from typing import Self

from services.indexing.pipeline.errors import DocumentTooLarge

MAX_PART_BYTES = 256 * 1024 * 1024
MAX_BYTES = 2 * MAX_PART_BYTES
MAX_PARTS = 10_000


@dataclass(slots=True)
class Limits:
    """What is left. `part_bytes` is the most that one part may unpack to, `bytes` what all parts may.

    Raises:
        DocumentTooLarge: Every method does, when more is taken than there is.
    """

    characters: int
    part_bytes: int
    bytes: int
    parts: int

    @classmethod
    def of_document(cls, max_characters: int) -> Self:
        return cls(max_characters, part_bytes=MAX_PART_BYTES, bytes=MAX_BYTES, parts=MAX_PARTS)

    def take_text(self, text: str) -> None:
        self.characters -= len(text)
        if self.characters < 0:
            raise DocumentTooLarge(detail="text")

    def take_part(self, name: str, size: int) -> None:
        self.parts -= 1
        self.bytes -= size
        if size > self.part_bytes or self.bytes < 0 or self.parts < 0:
            raise DocumentTooLarge("unpacked", detail=f"{name} declares {size} bytes")
