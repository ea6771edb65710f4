"""How the queue stands, as every process of the service tells Prometheus: nobody works here."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from services.indexing.jobs import leases
from services.indexing.jobs.metrics import queue_source
from shared.gauges import Sample
from shared.tenancy import Database
from tests.services.indexing.uploads import Library

pytestmark = pytest.mark.usefixtures("quiet_queue")


async def read(database: Database) -> dict[str, float]:
    samples = await queue_source(database.engines.system).read()
    return {sample.labels[0] if sample.labels else "age": sample.value for sample in samples}


async def test_an_empty_queue_has_no_age(database: Database) -> None:
    assert await read(database) == {
        "queued": 0, "extracting": 0, "chunking": 0, "embedding": 0, "storing": 0, "age": 0,
    }  # fmt: skip


async def test_jobs_of_all_tenants_are_counted_by_state(
    database: Database, library: Library, other_library: Library
) -> None:
    for one in (library, other_library):
        await one.upload("text")
        await one.upload("more text")
    async with database.system() as session:
        assert await leases.take_next(session, owner="a", seconds=30, preferred="interactive")
    told = await read(database)
    assert (told["queued"], told["extracting"], told["embedding"]) == (3, 1, 0)


async def test_the_queue_is_as_old_as_its_oldest_due_job(database: Database, library: Library) -> None:
    await wait(database, library, timedelta(seconds=40))
    await wait(database, library, timedelta(seconds=90))
    assert 90 <= (await read(database))["age"] < 100


async def test_a_job_that_waits_for_a_better_moment_is_not_late(database: Database, library: Library) -> None:
    await wait(database, library, -timedelta(minutes=5))
    told = await read(database)
    assert (told["queued"], told["age"]) == (1, 0)


async def test_a_job_whose_worker_is_gone_is_late(database: Database, library: Library) -> None:
    await library.upload("text")
    async with database.system() as session:
        assert await leases.take_next(session, owner="a", seconds=30, preferred="interactive")
    assert (await read(database))["age"] == 0
    async with database.system() as session:
        await session.execute(text("UPDATE jobs SET lease_expires_at = now() - interval '50 seconds'"))
    assert 50 <= (await read(database))["age"] < 60


def test_readings_carry_the_names_they_announce(database: Database) -> None:
    families = queue_source(database.engines.system).families
    assert {name: labels for name, (_, labels) in families.items()} == {
        "quarry_jobs": ("state",),
        "quarry_job_queue_age_seconds": (),
    }
    assert Sample("quarry_jobs", 1.0, ("queued",)).metric in families


async def wait(database: Database, library: Library, since: timedelta) -> None:
    """One more job, due since then."""
    document_id = await library.upload("text")
    async with database.system() as session:
        await session.execute(
            text("UPDATE jobs SET next_run_at = now() - make_interval(secs => :seconds) WHERE document_id = :id"),
            {"seconds": since.total_seconds(), "id": document_id},
        )
