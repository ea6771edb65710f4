"""Prometheus metrics of generations: what this process does, and what waits in all of them.

The state is read from Postgres across tenants as the system role. It grows with the number of projects, not with what
they contain.
"""

from collections.abc import Sequence
from typing import Final, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.gauges import Sample, Source
from shared.metrics import Instruments

Difference = Literal["missing", "surplus"]
STATES: Final = ("building", "active", "kept", "dropping")

_STATE: Final = text(
    """
    SELECT state, count(*) AS generations, count(error) AS failing,
           coalesce(extract(epoch FROM now() - min(created_at)), 0) AS age
    FROM generations GROUP BY state
    """
)
_LACKING: Final = text(
    """
    SELECT count(*) AS documents, coalesce(extract(epoch FROM now() - min(created_at)), 0) AS age
    FROM generation_documents
    """
)


class GenerationMetrics:
    """The instruments of one process."""

    def __init__(self, metrics: Instruments) -> None:
        self._service = metrics.service
        self._written = metrics.counter("reindexed_chunks", "Chunks whose points were made again.")
        self._written.labels(self._service)
        self._differences = metrics.counter(
            "vector_drift", "Documents whose points differed from their chunks, by how.", "kind"
        )
        self._switches = metrics.counter("generation_switches", "Times that search went over to another generation.")
        self._switches.labels(self._service)

    def written(self, chunks: int) -> None:
        self._written.labels(self._service).inc(chunks)

    def differed(self, kind: Difference, documents: int) -> None:
        self._differences.labels(self._service, kind).inc(documents)

    def switched(self) -> None:
        self._switches.labels(self._service).inc()


def generations_source(system: AsyncEngine) -> Source:
    """How many generations are in each state, how many of them fail, and how many documents they lack."""

    async def read() -> Sequence[Sample]:
        async with system.connect() as connection:
            states = {row.state: row for row in (await connection.execute(_STATE)).all()}
            lacking = (await connection.execute(_LACKING)).one()
        building = states.get("building")
        return (
            *(
                Sample("quarry_generations", float(states[state].generations) if state in states else 0.0, (state,))
                for state in STATES
            ),
            Sample("quarry_generations_failing", float(sum(row.failing for row in states.values()))),
            Sample("quarry_generation_build_age_seconds", float(building.age) if building else 0.0),
            Sample("quarry_generation_documents", float(lacking.documents)),
            Sample("quarry_generation_documents_age_seconds", float(lacking.age)),
        )

    families = {
        "quarry_generations": ("Generations of points, by state.", ("state",)),
        "quarry_generations_failing": ("Generations whose last step failed.", ()),
        "quarry_generation_build_age_seconds": ("Seconds since the oldest generation being built was begun.", ()),
        "quarry_generation_documents": ("Documents that wait for their points in some generation.", ()),
        "quarry_generation_documents_age_seconds": ("Seconds that the oldest of them has waited.", ()),
    }
    return Source("generations", families, read)
