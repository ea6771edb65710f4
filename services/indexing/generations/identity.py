"""What the points of a generation are made with, and what is embedded of a chunk."""

from dataclasses import dataclass
from typing import Final

from services.indexing import analysis
from services.indexing.embedders import Embedder


@dataclass(frozen=True, slots=True)
class Identity:
    """Points of one identity can be compared with each other and with queries, those of another cannot."""

    embedder: str
    dimensions: int
    analyzer: str

    @classmethod
    def of(cls, embedder: Embedder) -> "Identity":
        """What new generations are made with."""
        return cls(embedder.name, embedder.dimensions, analysis.CURRENT)


FIRST: Final = Identity("all-MiniLM-L6-v2-int8", 384, analysis.FIRST)
"""What points were made with before there were generations: their number is 1."""


@dataclass(frozen=True, slots=True)
class Current:
    """The generation that a project's search reads."""

    number: int
    identity: Identity
