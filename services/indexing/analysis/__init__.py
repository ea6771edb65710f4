"""Text analysis for keyword search: one analyzer for documents, queries and highlights.

An analyzer's name is part of what stored points are: a change of tokens, stems or weights is a new analyzer beside the
old one, never another meaning of a name.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from services.indexing.analysis.analyzer import Analyzer
from services.indexing.analysis.english import English
from services.indexing.analysis.multilingual import Multilingual

ANALYZERS: Final[Mapping[str, Analyzer]] = MappingProxyType(
    {analyzer.name: analyzer for analyzer in (English(), Multilingual())}
)

FIRST: Final = English.name
"""What points were made with before analyzers had names."""

CURRENT: Final = Multilingual.name
"""What points are made with now."""


def prepare() -> None:
    """Build the tables and patterns, which takes about 0.2 s, before somebody waits for it."""
    for analyzer in ANALYZERS.values():
        analyzer.of_chunk("prêt 水", average_length=1.0)
        analyzer.of_query("prêt 水")
