"""I1: what clients were told is what the tables hold; and what nobody answered happened wholly or not at all."""

import uuid
from collections import defaultdict

import asyncpg

from tests.faults import views
from tests.faults.ledger import DocumentEntry, Ledger, ProjectEntry
from tests.faults.report import Violation


async def check(postgres: asyncpg.Connection, ledger: Ledger) -> list[Violation]:
    """Compare a ledger with the database."""
    wrong = [
        *await _projects(postgres, ledger),
        *await _members(postgres, ledger),
        *await _documents(postgres, ledger),
        *await _events(postgres, ledger),
        *await _uncertain(postgres, ledger),
    ]
    return [Violation("I1", "not as the client was told", wrong)] if wrong else []


async def _projects(postgres: asyncpg.Connection, ledger: Ledger) -> list[str]:
    rows = {row["id"]: row for row in await postgres.fetch(views.PROJECTS, list(ledger.projects))}
    return [
        f"project {entry.id}: {problem}"
        for entry in ledger.projects.values()
        for problem in _of_project(entry, rows.get(entry.id))
    ]


def _of_project(entry: ProjectEntry, row: asyncpg.Record | None) -> list[str]:
    if row is None:
        return ["created and gone"]
    found = [] if row["tenant_id"] == entry.tenant_id else [f"of tenant {row['tenant_id']}, not {entry.tenant_id}"]
    if row["name"] not in entry.names:
        found.append(f"named {row['name']!r}, not {sorted(entry.names)}")
    if row["deleted"] not in entry.deleted:
        found.append("deleted" if row["deleted"] else "deleted and back")
    return found


async def _members(postgres: asyncpg.Connection, ledger: Ledger) -> list[str]:
    rows = await postgres.fetch(views.MEMBERS, list(ledger.projects))
    roles: dict[tuple[uuid.UUID, uuid.UUID], str] = {(row["project_id"], row["user_id"]): row["role"] for row in rows}
    return [
        f"member {user} of project {project.id}: {roles.get((project.id, user))}, not {sorted(map(str, believed))}"
        for project in ledger.projects.values()
        for user, believed in project.members.items()
        if roles.get((project.id, user)) not in believed
    ]


async def _documents(postgres: asyncpg.Connection, ledger: Ledger) -> list[str]:
    rows = {row["id"]: row for row in await postgres.fetch(views.DOCUMENTS, list(ledger.documents))}
    return [
        f"document {entry.id}: {problem}"
        for entry in ledger.documents.values()
        for problem in _of_document(entry, rows.get(entry.id))
    ]


def _of_document(entry: DocumentEntry, row: asyncpg.Record | None) -> list[str]:
    if row is None:
        return ["uploaded and gone"]
    found = []
    if (row["tenant_id"], row["project_id"]) != (entry.tenant_id, entry.project_id):
        found.append(f"of tenant {row['tenant_id']} and project {row['project_id']}")
    if row["sha256"] != entry.sha256:
        found.append("other content than was sent")
    if row["deleted"] not in entry.deleted:
        found.append("deleted" if row["deleted"] else "deleted and back")
    elif not row["deleted"] and row["name"] not in entry.names:
        found.append(f"named {row['name']!r}, not {sorted(entry.names)}")
    if not row["deleted"] and not entry.readable and row["status"] == "indexed":
        found.append("indexed although it cannot be read")
    return found


async def _events(postgres: asyncpg.Connection, ledger: Ledger) -> list[str]:
    subjects = sorted({str(subject) for subject, _ in ledger.events})
    counts: defaultdict[tuple[uuid.UUID, str], int] = defaultdict(int)
    for row in await postgres.fetch(views.PUBLISHED, subjects):
        counts[row["subject"], row["type"]] = row["count"]
    return [
        f"{event_type} of {subject}: {counts[subject, event_type]} events, not {bounds.least} to {bounds.most}"
        for (subject, event_type), bounds in ledger.events.items()
        if not bounds.least <= counts[subject, event_type] <= bounds.most
    ]


async def _uncertain(postgres: asyncpg.Connection, ledger: Ledger) -> list[str]:
    """A creation that was tried once and not answered may have happened, once."""
    rows = await postgres.fetch(views.NAMED, sorted({name for _, _, name in ledger.uncertain}))
    return [
        f"{row['kind']} {row['name']!r} exists {row['count']} times in tenant {row['tenant_id']}"
        for row in rows
        if row["count"] > 1 or (row["tenant_id"], row["kind"], row["name"]) not in ledger.uncertain
    ]
