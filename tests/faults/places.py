"""Where each failpoint is reached in a running system, and what makes it so when a workload alone does not."""

import importlib
import pkgutil
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx

import shared
from shared.failpoints import declared
from shared.redis_clients import stream_of
from shared.topology import SERVICES
from tests.faults.fault_injection import admin_of, redis_of
from tests.support.polling import eventually
from tests.support.resumable import TUS, append, begin_upload, offset_of
from tests.support.system import System, create_project, settled, upload

Provocation = Callable[[System, str], Awaitable[None]]
"""Given the system and the service whose failpoint is to be reached."""

CONSUMERS: Final = ("indexing", "notifier", "projects")
_PRODUCER_READ_BY: Final = {"indexing": "projects", "notifier": "projects", "projects": "indexing"}


@dataclass(frozen=True, slots=True)
class Place:
    """Which services may host a failpoint, and how it is reached.

    visits: from how many visits the one that fails is chosen.
    within: seconds after the workload in which it must have been reached.
    """

    services: tuple[str, ...]
    visits: int = 6
    provoke: Provocation | None = None
    within: float = 10.0


async def flush_redis(system: System, _service: str) -> None:
    """Redis forgets everything."""
    async with redis_of(system.stack) as redis:
        await redis.flushdb()


async def poison(system: System, service: str) -> None:
    """An entry that nobody can decode, in a stream that the service reads."""
    async with redis_of(system.stack) as redis:
        await redis.xadd(stream_of(_PRODUCER_READ_BY[service]), {"event": b"not a CloudEvent"})


async def run_an_agent(system: System, _service: str) -> None:
    """A run of an agent over a document; it may end the service."""
    _, client = await system.tenant(f"runs-{uuid.uuid4().hex[:8]}")
    project = await create_project(client)
    await upload(client, project, "wall.txt", b"The harbour wall is made of granite from the eastern quarry.")
    await settled(client, project, 1)
    with suppress(httpx.HTTPError):
        await client.post(
            f"/v1/projects/{project}/ask", json={"question": "What is the wall made of?", "stream": False}
        )


async def export(system: System, _service: str) -> None:
    """An export of a document, deleted once it is ready; either may end the service."""
    _, client = await system.tenant(f"exports-{uuid.uuid4().hex[:8]}")
    project = await create_project(client)
    await upload(client, project, "wall.txt", b"The harbour wall is made of granite from the eastern quarry.")
    made = await client.post("/v1/exports", json={"project_id": project})

    async def ready() -> bool:
        return bool((await client.get(made.headers["Location"])).json().get("status") == "ready")

    with suppress(httpx.HTTPError, AssertionError):
        await eventually(ready, within=10, every=0.1)
        await client.delete(made.headers["Location"])


async def redrive(system: System, service: str) -> None:
    """A dead letter of an event the service has long applied, to be redriven: nothing may happen twice."""
    handler, event_type, producer = _REDRIVEN[service]
    async with admin_of(system.stack) as admin, redis_of(system.stack) as redis:
        entries: Any = await redis.xrevrange(stream_of(producer), count=500)
        payload = next(fields[b"event"] for _, fields in entries if f'"{event_type}"'.encode() in fields[b"event"])
        await admin.execute(_LETTER[service], f"{uuid.uuid4()}", handler, payload)


async def reindex(system: System, _service: str) -> None:
    """Every project is indexed again, while the next commands come in."""
    async with admin_of(system.stack) as admin:
        await admin.execute(
            "UPDATE indexing.generations SET requested = 'always', due_at = now() WHERE state = 'active'"
        )


async def send_in_pieces(system: System, _service: str) -> None:
    """A resumable upload, gone on with whatever happens until it is a document; one that is refused; one given up."""
    _, client = await system.tenant(f"pieces-{uuid.uuid4().hex[:8]}")
    project = await create_project(client)
    content = uuid.uuid4().bytes * 4096
    document = await _sent_in_pieces(client, project, content)
    stored = (await client.get(f"/v1/projects/{project}/documents/{document}/content")).content
    assert stored == content
    listed = (await client.get(f"/v1/projects/{project}/documents")).json()["items"]
    assert [item["id"] for item in listed] == [document]
    with suppress(httpx.HTTPError, AssertionError):
        await begin_upload(client, project, "again.bin", len(content), content, duplicates="reject")
    with suppress(httpx.HTTPError, AssertionError):
        path = await begin_upload(client, project, "given-up.bin", 10, b"12345")
        await client.delete(path, headers=TUS)


async def _sent_in_pieces(client: httpx.AsyncClient, project: str, content: bytes) -> str:
    path: str | None = None

    async def sent() -> str | None:
        nonlocal path
        try:
            path = path or await begin_upload(client, project, "pieces.bin", len(content), content[:100])
            offset = await offset_of(client, path)
            answer = await append(client, path, offset, content[offset : offset + len(content) // 2])
        except (httpx.HTTPError, AssertionError):
            return None
        document: str | None = answer.headers.get("quarry-document-id")
        return document

    return str(await eventually(sent, within=60))


_REDRIVEN: Final = {
    "indexing": ("indexing.on_document_uploaded", "projects.document.uploaded.v1", "projects"),
    "notifier": ("notifier.feed.projects.document.uploaded.v1", "projects.document.uploaded.v1", "projects"),
    "projects": ("projects.on_job_started", "indexing.job.started.v1", "indexing"),
}
_LETTER: Final = {
    "indexing": "INSERT INTO indexing.dead_letters (stream, entry_id, consumer_group, handler, reason, attempts, "
    "payload, redrive_requested_at) VALUES ('events.projects', $1, 'indexing', $2, 'planted', 5, $3, now())",
    "notifier": "INSERT INTO notifier.dead_letters (stream, entry_id, consumer_group, handler, reason, attempts, "
    "payload, redrive_requested_at) VALUES ('events.projects', $1, 'notifier', $2, 'planted', 5, $3, now())",
    "projects": "INSERT INTO projects.dead_letters (stream, entry_id, consumer_group, handler, reason, attempts, "
    "payload, redrive_requested_at) VALUES ('events.indexing', $1, 'projects', $2, 'planted', 5, $3, now())",
}

_PLACES: Final[dict[str, Place]] = {
    "relay.after_epoch": Place(("projects", "indexing"), visits=1, provoke=flush_redis),
    # The janitor sweeps once a minute.
    "stream.before_trim": Place(("projects", "indexing"), visits=1, within=75),
    "handler.after_quarantine": Place(CONSUMERS, visits=1, provoke=poison),
    "redrive.after_claim": Place(CONSUMERS, visits=1, provoke=redrive, within=15),
    "redrive.after_apply": Place(CONSUMERS, visits=1, provoke=redrive, within=15),
    "redrive.after_outcome": Place(CONSUMERS, visits=1, provoke=redrive, within=15),
}
_FAMILIES: Final[dict[str, Place]] = {
    # In shared: whoever has the traffic.
    "outbox": Place(("projects",), visits=20),
    "transaction": Place(("projects",), visits=20),
    "relay": Place(("projects", "indexing")),
    "consumer": Place(CONSUMERS),
    "handler": Place(CONSUMERS),
    # Of one service.
    "upload": Place(("projects",), visits=10),
    "tus": Place(("projects",), visits=1, provoke=send_in_pieces),
    "blobs": Place(("projects",), visits=3),
    "exports": Place(("projects",), visits=1, provoke=export, within=15),
    "jobs": Place(("indexing",), visits=10),
    "indexing": Place(("indexing",), visits=10),
    "vectors": Place(("indexing",), visits=3),
    "generations": Place(("indexing",), visits=2, provoke=reindex, within=30),
    "progress": Place(("indexing",)),
    "feed": Place(("notifier",), visits=10),
    "run": Place(("indexing",), visits=1, provoke=run_an_agent),
}


def place_of(name: str) -> Place:
    """Where a failpoint is reached. One in the code of a service belongs to that service.

    Raises:
        LookupError: nobody has said so yet.
    """
    if name in _PLACES:
        return _PLACES[name]
    family, _, _ = name.partition(".")
    if family in _FAMILIES:
        return _FAMILIES[family]
    raise LookupError(f"failpoint {name!r} has no place in the matrix")


def every_name() -> list[str]:
    """Every failpoint of the system: all modules of the services and of `shared` are imported for it."""
    for module in pkgutil.walk_packages(shared.__path__, "shared."):
        importlib.import_module(module.name)
    for service in SERVICES:
        importlib.import_module(f"services.{service}.main")
    return list(declared())


def named_in_places() -> frozenset[str]:
    """Failpoints that have a place of their own, for a test that none of them is stale."""
    return frozenset(_PLACES)
