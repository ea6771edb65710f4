"""Every place that keeps something of a tenant is known, and a new one that is not turns this red."""

import ast
import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import asyncpg
import pytest

from infra.local.home import ROOT
from infra.local.stack import Stack
from infra.postgres.roles import DATABASE
from services.projects.blobs.store import BlobKey
from shared.migrations import SERVICES_WITH_SCHEMA
from shared.redis_clients import command_client
from tests.isolation import registry
from tests.isolation.attacks import exists
from tests.isolation.catalogue import OPEN_REFERENCES, findings
from tests.isolation.conftest import Victim
from tests.isolation.registry import FEEDS, FOLDERS, MEMORY, NOT_YET, OTHERS, REDIS_KEYS, Store

MAPPINGS = {"dict", "OrderedDict", "Counter", "defaultdict", "WeakValueDictionary", "WeakKeyDictionary"}
CACHING = {"lru_cache", "cache", "cached_property", "alru_cache"}


def unknown(names: Iterable[str], stores: Iterable[Store]) -> list[str]:
    patterns = [re.compile(store.pattern) for store in stores]
    return [name for name in names if not any(pattern.fullmatch(name) for pattern in patterns)]


def unused(names: Iterable[str], stores: Iterable[Store]) -> list[str]:
    """Entries that stand for nothing any more."""
    found = list(names)
    return [store.pattern for store in stores if not any(re.fullmatch(store.pattern, name) for name in found)]


# --- tables ---------------------------------------------------------------------------------------------------------


async def test_every_table_is_known_and_keeps_to_the_rules(whole: Stack) -> None:
    connection = await asyncpg.connect(whole.postgres.admin_dsn(DATABASE))
    try:
        assert await findings(connection) == []
    finally:
        await connection.close()
    assert all(len(reason) > 20 for reason in (*registry.OPEN_KEYS.values(), *OPEN_REFERENCES.values()))


CARELESS = {
    "notifier.forgotten: row security is not on": "CREATE TABLE notifier.forgotten (tenant_id uuid NOT NULL)",
    "notifier.forgotten: row security is not forced": "CREATE TABLE notifier.forgotten (tenant_id uuid NOT NULL); "
    "ALTER TABLE notifier.forgotten ENABLE ROW LEVEL SECURITY",
    "notifier.forgotten: has no policy": "CREATE TABLE notifier.forgotten (tenant_id uuid NOT NULL); "
    "GRANT SELECT ON notifier.forgotten TO notifier",
    "notifier.forgotten: has no tenant_id": "CREATE TABLE notifier.forgotten (id uuid); "
    "GRANT SELECT ON notifier.forgotten TO notifier",
    "notifier.forgotten: not in the registry of stores": "CREATE TABLE notifier.forgotten (tenant_id uuid NOT NULL)",
    "notifier.forgotten: pk_forgotten is without the tenant": "CREATE TABLE notifier.forgotten "
    "(tenant_id uuid NOT NULL, id uuid CONSTRAINT pk_forgotten PRIMARY KEY)",
    "notifier.feeds: fk_feeds_careless is without the tenant": "CREATE TABLE notifier.target (id uuid PRIMARY KEY); "
    "ALTER TABLE notifier.feeds ADD CONSTRAINT fk_feeds_careless FOREIGN KEY (feed_id) "
    "REFERENCES notifier.target NOT VALID",
    "notifier.feeds: row security is not forced": "ALTER TABLE notifier.feeds NO FORCE ROW LEVEL SECURITY",
    "notifier.feeds: has no policy": "DROP POLICY tenant_isolation ON notifier.feeds",
    "notifier.feed_events: in the registry, and nowhere else": "DROP TABLE notifier.feed_events",
}


@pytest.mark.parametrize("finding", CARELESS)
async def test_a_careless_table_is_found(whole: Stack, finding: str) -> None:
    connection = await asyncpg.connect(whole.postgres.admin_dsn(DATABASE))
    changing = connection.transaction()
    await changing.start()
    try:
        await connection.execute(CARELESS[finding])
        assert finding in await findings(connection)
    finally:
        await changing.rollback()
        await connection.close()


async def test_the_schema_of_a_service_without_tables_is_empty(whole: Stack) -> None:
    """The gateway keeps nothing in Postgres; its first table is found here, and then wants a migration like others."""
    connection = await asyncpg.connect(whole.postgres.admin_dsn(DATABASE))
    try:
        found = await connection.fetch(
            "SELECT n.nspname || '.' || c.relname AS name "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE NOT n.nspname = ANY($1) AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'",
            SERVICES_WITH_SCHEMA,
        )
        assert list(found) == []
    finally:
        await connection.close()


# --- Redis and folders ----------------------------------------------------------------------------------------------


async def keys_of(stack: Stack) -> list[str]:
    redis = command_client(stack.redis.url())
    try:
        return [key.decode() async for key in redis.scan_iter(count=1000)]
    finally:
        await redis.aclose()


async def test_every_key_in_redis_is_of_a_known_family(whole: Stack, victim: Victim) -> None:
    """After work was done with everything the product has."""
    keys = await keys_of(whole)
    assert unknown(keys, REDIS_KEYS) == []
    assert len(keys) >= 5


async def test_a_key_nobody_has_thought_of_is_found(whole: Stack, victim: Victim) -> None:
    redis = command_client(whole.redis.url())
    try:
        await redis.set(f"search:cache:{victim.ids['tenant_id']}", "hits")
        assert unknown(await keys_of(whole), REDIS_KEYS) == [f"search:cache:{victim.ids['tenant_id']}"]
    finally:
        await redis.delete(f"search:cache:{victim.ids['tenant_id']}")
        await redis.aclose()


def folders_of(home: Path) -> list[str]:
    return sorted(entry.name for entry in home.iterdir())


async def test_every_folder_of_a_stack_is_known(whole: Stack, victim: Victim) -> None:
    home = whole.home.folder
    assert unknown(folders_of(home), FOLDERS) == []
    assert {"redis", "blobs", "vectors"} <= set(folders_of(home))
    (home / "thumbnails").mkdir()
    try:
        assert unknown(folders_of(home), FOLDERS) == ["thumbnails"]
    finally:
        (home / "thumbnails").rmdir()


async def test_the_blobs_of_a_tenant_lie_below_its_id(whole: Stack, victim: Victim) -> None:
    kept = [path.relative_to(whole.home.blobs).parts for path in whole.home.blobs.rglob("*") if path.is_file()]
    assert kept
    for parts in kept:
        if parts[0] == "incoming":
            assert BlobKey.from_incoming_name(parts[1].removesuffix(".part").removesuffix(".upload")) is not None
        else:
            assert len(parts) == 4
            assert [str(uuid.UUID(part)) for part in parts[:3]] == list(parts[:3])
            assert parts[3].isdecimal()
    assert victim.ids["tenant_id"] in {parts[0] for parts in kept}


def test_blobs_of_two_tenants_share_no_place() -> None:
    """Whatever else is the same."""
    same = (uuid.uuid4(), uuid.uuid4(), 1)
    first, second = (BlobKey(uuid.uuid4(), *same) for _ in range(2))
    assert first.path != second.path
    assert first.incoming_name != second.incoming_name
    assert first.path.startswith(f"{first.tenant_id}/")


# --- memory ---------------------------------------------------------------------------------------------------------


def mappings_in(source: str, module: str) -> Iterator[str]:
    """Mappings that objects keep, and functions whose answers are kept: each could serve one tenant another's."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            for assigned in ast.walk(node):
                yield from (f"{module}.{node.name}.{name}" for name in _assigned_mappings(assigned))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = {part.id for mark in node.decorator_list for part in ast.walk(mark) if isinstance(part, ast.Name)}
            names |= {
                part.attr for mark in node.decorator_list for part in ast.walk(mark) if isinstance(part, ast.Attribute)
            }
            if names & CACHING:
                yield f"{module}.{node.name}"


def _assigned_mappings(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Assign):
        targets, value = node.targets, node.value
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        targets, value = [node.target], node.value
    else:
        return
    made = isinstance(value, ast.Dict) and not value.keys
    if isinstance(value, ast.Call):
        called = value.func.value if isinstance(value.func, ast.Subscript) else value.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        made = name in MAPPINGS
    for target in targets:
        if (
            made
            and isinstance(target, ast.Attribute)
            and isinstance(target.value, ast.Name)
            and target.value.id == "self"
        ):
            yield target.attr


def all_mappings() -> list[str]:
    found = set()
    for folder in ("services", "shared"):
        for path in (ROOT / folder).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found |= set(mappings_in(path.read_text(encoding="utf-8"), module))
    return sorted(found)


def test_every_mapping_that_a_process_keeps_is_known() -> None:
    found = all_mappings()
    assert unknown(found, MEMORY) == []
    assert unused(found, MEMORY) == []


def test_a_cache_nobody_has_thought_of_is_found() -> None:
    careless = (
        "import functools\n"
        "class Search:\n"
        "    def __init__(self) -> None:\n"
        "        self._answers: dict[str, list[str]] = {}\n"
        "        self._counts = Counter[str]()\n"
        "@functools.lru_cache(maxsize=None)\n"
        "def answer(query: str) -> list[str]: ...\n"
    )
    found = list(mappings_in(careless, "services.indexing.careless"))
    assert sorted(unknown(found, MEMORY)) == [
        "services.indexing.careless.Search._answers",
        "services.indexing.careless.Search._counts",
        "services.indexing.careless.answer",
    ]


# --- the registry itself --------------------------------------------------------------------------------------------


def test_every_store_says_how_and_names_a_test_that_exists() -> None:
    for store in (*REDIS_KEYS, *FOLDERS, *MEMORY, *FEEDS, *OTHERS):
        assert len(store.apart) > 5, store
        assert exists(store.proof), store
    assert exists(registry.SQL)
    assert exists(registry.SQL_SYSTEM)
    assert all(len(reason) > 10 for _, reason in NOT_YET)


async def test_every_feed_of_the_product_is_known(whole: Stack, victim: Victim) -> None:
    described = (await victim.client.get("/openapi.json")).json()
    streams = {
        path
        for path, item in described["paths"].items()
        for operation in item.values()
        if "text/event-stream" in operation.get("responses", {}).get("200", {}).get("content", {})
    }
    assert streams == {feed.pattern for feed in FEEDS}
