"""Paragraphs, headings and lines of a Word document, in reading order."""

from typing import NamedTuple

from services.indexing.pipeline.formats.limits import Limits
from services.indexing.pipeline.formats.text_builder import Kind


class Block(NamedTuple):
    """`level` is a heading's; `cells` are what a row of a table consists of."""

    kind: Kind
    text: str
    level: int = 1
    cells: tuple[str, ...] = ()


class Blocks:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._blocks: list[Block] = []

    def add(self, block: Block) -> None:
        """Add a block of text, which is not blank.

        Raises:
            DocumentTooLarge: More text than the limits allow.
        """
        self._limits.take_text(block.text)
        self._blocks.append(block)

    def extend(self, others: "Blocks") -> None:
        """Add blocks that count towards the limits already."""
        self._blocks += others._blocks

    @property
    def all(self) -> tuple[Block, ...]:
        return tuple(self._blocks)
