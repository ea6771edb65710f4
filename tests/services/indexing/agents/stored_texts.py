"""Documents as agents read them, without a database: their passages, and what is stored of their text."""

import uuid
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from services.indexing.agents.contracts import Passage, StoredText
from services.indexing.pipeline.chunking import chunk
from services.indexing.pipeline.documents import PLAIN_TEXT, Chunk

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of a document."""

    text: str
    chunks: Sequence[Chunk]
    name: str = "notes.txt"
    version: int = 1
    id: uuid.UUID = field(default_factory=uuid.uuid4)

    @classmethod
    def of(cls, text: str, *, capacity: int | None = None, name: str = "notes.txt", version: int = 1) -> "Stored":
        return cls(text, chunk(text, content_type=PLAIN_TEXT, capacity=capacity), name, version)

    def passages(self) -> list[Passage]:
        return [
            Passage(
                document_id=self.id,
                document_name=self.name,
                version=self.version,
                sha256=None,
                chunk_index=each.index,
                start=each.start,
                end=each.end,
                text=each.text,
                page=each.index + 1,
                score=1.0,
            )
            for each in self.chunks
        ]


class StoredTexts:
    """A `contracts.Texts` over some documents: those of one tenant. Counts what is read."""

    def __init__(self, *documents: Stored) -> None:
        self._documents = {(each.id, each.version): each for each in documents}
        self.reads: list[tuple[uuid.UUID, int, int, int]] = []

    async def read(self, document_id: uuid.UUID, version: int, start: int, end: int) -> Sequence[StoredText]:
        self.reads.append((document_id, version, start, end))
        document = self._documents.get((document_id, version))
        return [] if document is None else stored(document.chunks, start, end)


def stored(chunks: Sequence[Chunk], start: int, end: int) -> list[StoredText]:
    """What chunks hold of a range."""
    pieces: list[StoredText] = []
    for each in chunks:
        begin, stop = max(start, each.start), min(end, each.end)
        if begin >= stop:
            continue
        text = each.text[begin - each.start : stop - each.start]
        if pieces and pieces[-1].end == begin:
            pieces[-1] = StoredText(pieces[-1].start, pieces[-1].text + text)
        else:
            pieces.append(StoredText(begin, text))
    return pieces


async def at_once(work: Generator[None, None, T]) -> T:
    """A `verification.Compute` that takes no turns."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result
