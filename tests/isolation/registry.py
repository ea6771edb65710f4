"""Every place that keeps something of a tenant, how tenants are kept apart there, and the test that proves it.

Stores are found by evidence: tables in the catalogue, keys in Redis and folders on the disk after work was done, and
attributes that hold mappings in the source. What is found and not listed here fails `tests/isolation/test_stores.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SQL: Final = "tests/isolation/test_sql.py::test_another_tenants_rows_are_out_of_reach"
SQL_SYSTEM: Final = "tests/isolation/test_sql.py::test_what_belongs_to_no_tenant_is_closed_to_the_runtime_role"


@dataclass(frozen=True, slots=True)
class Rights:
    """What the runtime role and the system role may do with a table, as far as any column goes."""

    runtime: str
    system: str


_ALL = "SELECT INSERT UPDATE DELETE"
TABLES: Final[Mapping[str, Rights]] = {
    "identity.api_keys": Rights("SELECT INSERT UPDATE", "SELECT UPDATE"),
    "identity.dead_letters": Rights("", _ALL),
    "identity.inbox": Rights("SELECT INSERT", "SELECT DELETE"),
    "identity.invitations": Rights("SELECT INSERT UPDATE", "SELECT"),
    "identity.linked_accounts": Rights("", "SELECT INSERT"),
    "identity.login_states": Rights("", "SELECT INSERT DELETE"),
    "identity.memberships": Rights("SELECT INSERT UPDATE", "SELECT"),
    "identity.outbox": Rights("SELECT INSERT", _ALL),
    "identity.relay_state": Rights("", "SELECT INSERT UPDATE"),
    "identity.sessions": Rights("", _ALL),
    "identity.signing_keys": Rights("", "SELECT INSERT DELETE"),
    "identity.tenants": Rights("SELECT INSERT UPDATE", "SELECT"),
    "identity.users": Rights("SELECT", "SELECT INSERT UPDATE"),
    "indexing.chunks": Rights(_ALL, ""),
    "indexing.dead_letters": Rights("", _ALL),
    "indexing.documents": Rights(_ALL, ""),
    "indexing.embedded_batches": Rights(_ALL, ""),
    "indexing.inbox": Rights("SELECT INSERT", "SELECT DELETE"),
    "indexing.jobs": Rights(_ALL, "SELECT UPDATE"),
    "indexing.known_projects": Rights(_ALL, ""),
    "indexing.outbox": Rights("SELECT INSERT", "SELECT UPDATE DELETE"),
    "indexing.project_access": Rights(_ALL, ""),
    "indexing.relay_state": Rights("", "SELECT INSERT UPDATE"),
    "indexing.vector_changes": Rights(_ALL, "SELECT UPDATE"),
    "notifier.dead_letters": Rights("", _ALL),
    "notifier.feed_events": Rights(_ALL, ""),
    "notifier.feeds": Rights(_ALL, ""),
    "notifier.inbox": Rights("SELECT INSERT", "SELECT DELETE"),
    "notifier.known_projects": Rights(_ALL, ""),
    "notifier.outbox": Rights("SELECT INSERT", "SELECT UPDATE DELETE"),
    "notifier.project_access": Rights(_ALL, ""),
    "notifier.relay_state": Rights("", "SELECT INSERT UPDATE"),
    "projects.blob_deletions": Rights("SELECT INSERT", "SELECT UPDATE DELETE"),
    "projects.dead_letters": Rights("", _ALL),
    "projects.documents": Rights(_ALL, ""),
    "projects.inbox": Rights("SELECT INSERT", "SELECT DELETE"),
    "projects.outbox": Rights("SELECT INSERT", "SELECT UPDATE DELETE"),
    "projects.project_members": Rights(_ALL, ""),
    "projects.projects": Rights(_ALL, ""),
    "projects.relay_state": Rights("", "SELECT INSERT UPDATE"),
}
"""Tables by `schema.name`. What the runtime role may use is held to the bound tenant; the rest is closed to it."""

OPEN_KEYS: Final[Mapping[str, str]] = {
    "pk_outbox": "ids of events are random and given to no client: a conflict tells who chose the id what he knew",
    "uq_outbox_position": "the value is always generated, none can be chosen",
}
"""Unique keys without a tenant on tables of tenants, and why nobody can use them to ask whether a row exists."""
