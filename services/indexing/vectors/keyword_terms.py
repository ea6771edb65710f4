"""The keyword vectors of points and searches, by the analyzers that they name."""

from services.indexing.analysis import ANALYZERS
from services.indexing.analysis.analyzer import Terms
from services.indexing.vectors.engine import EnginePoint, EngineWords


def of_point(point: EnginePoint | EngineWords) -> Terms:
    analyzer = ANALYZERS[point["analyzer"]]
    return analyzer.of_chunk(point["text"], point["context"], average_length=point["average_length"])


def of_search(text: str, analyzers: list[str]) -> Terms | None:
    """The terms of a query to points of any of these analyzers. None when no term is left: nothing can match."""
    weights: dict[int, float] = {}
    for name in analyzers:
        terms = ANALYZERS[name].of_query(text)
        weights.update(zip(terms.ids, terms.weights, strict=True))
    return Terms(list(weights), list(weights.values())) if weights else None
