"""What operators see of generations."""

from datetime import timedelta

import httpx
from sqlalchemy import func, update

from services.indexing.generations.metrics import generations_source
from services.indexing.generations.models import Generation
from shared.gauges import Sample
from shared.tenancy import Database
from tests.services.indexing.generations.conftest import Project

Readings = dict[tuple[str, tuple[str, ...]], float]


async def read(database: Database) -> Readings:
    source = generations_source(database.engines.system)
    samples = await source.read()
    assert {sample.metric for sample in samples} == source.families.keys()
    return {(sample.metric, sample.labels): sample.value for sample in samples}


async def test_generations_are_counted_by_state(project: Project, database: Database) -> None:
    async with database.system() as session:
        # What earlier tests left under way would be counted, too, when it goes on.
        await session.execute(update(Generation).values(due_at=func.now() + timedelta(hours=1)))
    before = await read(database)
    await project.fill(2)
    await project.reindex()
    await project.becomes({3: "active", 2: "kept"})
    after = await read(database)
    for state, more in (("active", 1), ("kept", 1), ("building", 0)):
        name = ("quarry_generations", (state,))
        assert after[name] == before[name] + more
    assert after["quarry_generation_documents", ()] <= before["quarry_generation_documents", ()]
    assert Sample("quarry_generations", 1.0, ("active",)).metric in {name for name, _ in after}


async def test_what_a_process_writes_is_counted(project: Project, client: httpx.AsyncClient) -> None:
    async def written() -> float:
        text = (await client.get("/metrics")).text
        (line,) = [line for line in text.splitlines() if line.startswith("quarry_reindexed_chunks_total{")]
        return float(line.rpartition(" ")[2])

    before = await written()
    await project.fill(2)
    await project.reindex()
    await project.becomes({3: "active", 2: "kept"})
    assert await written() == before + 2
