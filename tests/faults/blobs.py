"""I1 and I9 for bytes: every document that was not deleted has its content, and every export that is ready its archive,
in the folder of their tenant."""

import asyncio
import hashlib
import uuid
from pathlib import Path

import asyncpg

from tests.faults import views
from tests.faults.ledger import Ledger
from tests.faults.report import Violation
from tests.support.files import files_below


async def check(postgres: asyncpg.Connection, root: Path, ledger: Ledger | None) -> list[Violation]:
    rows = await postgres.fetch(views.STORED)
    exports = await postgres.fetch(views.EXPORTED)
    contents = {} if ledger is None else {entry.id: entry.sha256 for entry in ledger.documents.values()}
    uploads = await postgres.fetch(views.UPLOADS)
    return [
        *await asyncio.to_thread(_compare, root, rows, exports, contents),
        *await asyncio.to_thread(_compare_uploads, root, uploads),
    ]


def _compare_uploads(root: Path, rows: list[asyncpg.Record]) -> list[Violation]:
    """Every unfinished upload has the bytes that its row says."""
    missing = []
    for row in rows:
        name = f"{row['tenant_id']}.{row['project_id']}.{row['id']}.1"
        places = [root / "incoming" / f"{name}{suffix}" for suffix in ("", ".upload")]
        sizes = [place.stat().st_size for place in places if place.is_file()]
        if row["unfinished"] and (len(sizes) != 1 or sizes[0] < row["received"]):
            missing.append(name)
    wrong = [str(row["id"]) for row in rows if row["wrong"]]
    problems = (
        ("I1", "unfinished upload without its bytes", missing),
        ("I3", "upload without its document or without an end", wrong),
    )
    return [Violation(invariant, what, evidence) for invariant, what, evidence in problems if evidence]


def _compare(
    root: Path, rows: list[asyncpg.Record], exports: list[asyncpg.Record], contents: dict[uuid.UUID, str]
) -> list[Violation]:
    missing, wrong, left, claimed = [], [], [], set()
    shared = {row["blob"] for row in rows if not row["deleted"]}
    for row in rows:
        relative, found = _found(root, row, 1)
        claimed |= set(found)
        if row["deleted"]:
            left += [str(place.relative_to(root)) for place in found if row["blob"] not in shared]
        elif not found:
            missing.append(relative)
        elif (
            row["newest"]
            and row["id"] in contents
            and hashlib.sha256(found[0].read_bytes()).hexdigest() != contents[row["id"]]
        ):
            wrong.append(relative)
    without_archive = []
    for row in exports:
        relative, found = _found(root, row, row["version"])
        claimed |= set(found)
        without_archive += [relative] if row["ready"] and not found else []
    # What a crash cut off is judged an hour later, in `incoming`; outside of it everything belongs to something.
    outside = [place for place in files_below(root) if place.parent.name != "incoming"]
    foreign = [str(place.relative_to(root)) for place in outside if place not in claimed]
    problems = (
        ("I1", "document without its content", missing),
        ("I1", "document with other content", wrong),
        ("I1", "export without its archive", without_archive),
        ("I3", "content of a deleted document", left),
        ("I9", "content that belongs to no document", foreign),
    )
    return [Violation(invariant, what, evidence) for invariant, what, evidence in problems if evidence]


def _found(root: Path, row: asyncpg.Record, version: int) -> tuple[str, list[Path]]:
    """A blob's path, and where it is: sealed ones wait in `incoming` until somebody moves them."""
    relative = f"{row['tenant_id']}/{row['project_id']}/{row['blob']}/{version}"
    places = [root / relative, root / "incoming" / relative.replace("/", ".")]
    return relative, [place for place in places if place.is_file()]
