"""Tables, streams and stores in the matrix: a test of theirs that has passed counts as a check.

Tests of one endpoint each carry its name as their parameter (`test_...[identity.api_keys]`). A store names its proof in
`tests.isolation.registry`; what is proved outside of this folder is run by `uv run test` and shown as such here.
"""

import re

from shared.events.envelope import producer_of, registered_events
from shared.migrations import SERVICES_WITH_SCHEMA
from tests.isolation import registry, report

_PARAMETER = re.compile(r"::(?:test_)?(\w+)\[(.+)\]$")
_EVENT = re.compile(rf"({'|'.join(SERVICES_WITH_SCHEMA)})\.\w+\.\w+\.v\d+$")
_STORES = (*registry.REDIS_KEYS, *registry.FOLDERS, *registry.MEMORY, *registry.OTHERS)
_HERE = "tests/isolation/"


def declare() -> None:
    """Say which tables, streams and stores there are."""
    report.declare("table", registry.TABLES)
    # Of services that publish anything: a stream begins with the first event declared for it.
    producers = {producer_of(name) for name in registered_events() if producer_of(name) in SERVICES_WITH_SCHEMA}
    report.declare("stream", [*(f"events.{producer}" for producer in sorted(producers)), "events.progress"])
    report.declare("stream", [feed.pattern for feed in registry.FEEDS])
    report.declare("store", [store.pattern for store in _STORES])
    for store in (*_STORES, *registry.FEEDS):
        if not store.proof.startswith(_HERE):
            report.count(_kind_of(store), store.pattern, "a test outside of this folder")


def passed(nodeid: str) -> None:
    """Note a test of this folder that has passed."""
    for store in (*_STORES, *registry.FEEDS):
        if nodeid.partition("[")[0] == store.proof:
            report.count(_kind_of(store), store.pattern, "its proof")
    if "progress" in nodeid and nodeid.startswith(f"{_HERE}test_events.py"):
        report.count("stream", "events.progress", "another tenant's tick")
    found = _PARAMETER.search(nodeid)
    if found is None:
        return
    words = found[1].replace("_", " ")
    if found[2] in registry.TABLES:
        report.count("table", found[2], words)
    elif event := _EVENT.search(found[2]):
        report.count("stream", f"events.{event[1]}", words)


def _kind_of(store: registry.Store) -> report.EndpointKind:
    return "stream" if store in registry.FEEDS else "store"
