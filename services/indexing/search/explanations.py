"""Why a search found what it found: how its query was read, and what each ranking gave a hit."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.indexing.analysis import ANALYZERS
from services.indexing.analysis.analyzer import Span
from services.indexing.generations.identity import Current
from services.indexing.search.progress import Progress
from services.indexing.search.query_syntax import ParsedQuery
from services.indexing.vectors.points import Hit, Mode

MAX_WORDS: Final = 50


@dataclass(frozen=True, slots=True)
class Explained:
    """What is known of a search besides its hits. `mode`: how it was ranked, whatever was asked for."""

    query: ParsedQuery
    mode: Mode
    generation: Current
    progress: Progress


def of_search(explained: Explained) -> Generator[None, None, dict[str, Any]]:
    """A `SearchExplanation`."""
    identity = explained.generation.identity
    terms = ANALYZERS[identity.analyzer].terms_of_query(explained.query.text)
    yield
    return {
        "mode": explained.mode,
        "analyzer": identity.analyzer,
        "embedder": identity.embedder,
        "generation": explained.generation.number,
        "terms": [{"text": term.text, "language": term.language, "weight": term.weight} for term in terms],
        "phrases": _readable(explained.query.phrases),
        "excluded": _readable(explained.query.excluded),
        "stages_ms": {name: round(taken, 2) for name, taken in explained.progress.milliseconds.items()},
    }


def of_hit(hit: Hit, text: str, marks: Sequence[Span]) -> dict[str, Any]:
    """A `HitExplanation`."""
    parts = hit.parts or {}
    words = dict.fromkeys(text[start:end] for start, end in marks)
    return {"semantic": parts.get("semantic"), "keyword": parts.get("keyword"), "words": list(words)[:MAX_WORDS]}


def _readable(sequences: Sequence[str]) -> list[str]:
    """`analysis.phrases` puts a line end around each word."""
    return [" ".join(sequence.split("\n")).strip() for sequence in sequences]
