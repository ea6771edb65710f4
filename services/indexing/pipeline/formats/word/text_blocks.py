"""Paragraphs, headings and lines of a document, in reading order."""

from enum import Enum
from itertools import pairwise

from services.indexing.pipeline.formats.word.limits import Limits


class Kind(Enum):
    """Consecutive lines (list items, table rows) belong together, and what follows a heading belongs to it."""

    HEADING = "heading"
    LINE = "line"
    PROSE = "prose"


Block = tuple[Kind, str]


class Blocks:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._blocks: list[Block] = []

    def add(self, kind: Kind, text: str) -> None:
        """Add a block of text, which is not blank.

        Raises:
            DocumentTooLarge: More text than the limits allow.
        """
        self._limits.take_text(text)
        self._blocks.append((kind, text))

    def extend(self, others: "Blocks") -> None:
        """Add blocks that count towards the limits already."""
        self._blocks += others._blocks

    @property
    def all(self) -> tuple[Block, ...]:
        return tuple(self._blocks)

    def text(self) -> str:
        parts = [text for _, text in self._blocks[:1]]
        for (above, _), (kind, text) in pairwise(self._blocks):
            if kind is Kind.HEADING:
                parts.append("\n\n\n")
            else:
                parts.append("\n" if above is Kind.HEADING or above is kind is Kind.LINE else "\n\n")
            parts.append(text)
        return "".join(parts)
