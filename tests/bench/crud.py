"""Requests through the gateway beside the same ones at a bare application (`tests.bench.reference`), and uploads.

Both take turns on the same database and machine, each for a few seconds at a time, so that what else the machine does
meanwhile falls on both; ratios are those of medians.
"""

import json
import statistics
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx

from infra.local.ports import any_free
from infra.local.services import ServiceProcess
from tests.bench import reference
from tests.bench.load import COUNTER, Load, Request, load
from tests.bench.processor_time import each, measured
from tests.support.documents import note
from tests.support.system import System, create_project

CLIENTS = 8
PROJECTS = 20
Make = Callable[[str], Request]
"""A request about one project."""


async def crud(system: System, client: httpx.AsyncClient, *, quick: bool = False) -> None:
    """Reading and writing projects, at 8 clients: requests per second of both, and their ratio."""
    projects = [await create_project(client, f"crud {number}") for number in range(PROJECTS)]
    me = (await client.get("/v1/me")).raise_for_status().json()
    ours = {"Authorization": client.headers["Authorization"]}
    theirs = {"X-Tenant-Id": me["tenant"]["id"], "X-User-Id": me["user"]["id"]}
    async with _reference(system) as bare:
        for name, make in _requests().items():
            await _compare(system, bare, name, (make("/v1", ours), make("", theirs)), projects, quick=quick)


async def uploads(system: System, client: httpx.AsyncClient, *, quick: bool = False) -> None:
    """Documents of 2 KB from 8 clients, while they are indexed."""
    project = await create_project(client, "uploads")
    text = f"{COUNTER}\n{note(0).decode()}"
    headers = {"Authorization": client.headers["Authorization"], "Content-Type": "text/plain"}
    upload = Request("POST", f"/v1/projects/{project}/documents?name=note.txt", headers, text)
    with measured(system) as seconds:
        done = await load(system.url, [upload] * CLIENTS, 5 if quick else 20)
    _tell(f"upload of a 2 KB note, {CLIENTS} clients", done)
    print(f"  processor time each: {each(seconds, done.count)}")


def _requests() -> dict[str, Callable[[str, dict[str, str]], Make]]:
    body = json.dumps({"name": COUNTER, "description": "what it is about", "metadata": {"colour": "blue"}})

    def reading(root: str, headers: dict[str, str]) -> Make:
        return lambda project: Request("GET", f"{root}/projects/{project}", headers)

    def listing(root: str, headers: dict[str, str]) -> Make:
        return lambda _: Request("GET", f"{root}/projects?limit={PROJECTS}", headers)

    def creating(root: str, headers: dict[str, str]) -> Make:
        return lambda _: Request("POST", f"{root}/projects", {**headers, "Content-Type": "application/json"}, body)

    def updating(root: str, headers: dict[str, str]) -> Make:
        sent = {**headers, "Content-Type": "application/json", "If-Match": "*"}
        return lambda project: Request("PATCH", f"{root}/projects/{project}", sent, json.dumps({"name": COUNTER}))

    return {"GET a project": reading, "list 20": listing, "create": creating, "update": updating}


async def _compare(
    system: System, bare: ServiceProcess, name: str, makes: tuple[Make, Make], projects: list[str], *, quick: bool
) -> None:
    targets = {"quarry": (system.url, makes[0]), "reference": (bare.url, makes[1])}
    turns = 3 if quick else 6
    rates: dict[str, list[float]] = defaultdict(list)
    for turn in range(turns):
        for target, (url, make) in targets.items():
            requests = [make(project) for project in projects[:CLIENTS]]
            with measured(system, reference=bare.pid) as seconds:
                done = await load(url, requests, 1 if quick else 3)
            if done.failed:
                raise RuntimeError(f"{target}: {name}: {done.failed}")
            # The first turn fills caches and prepares statements.
            if turn:
                rates[target].append(done.rate)
            if turn == turns - 1:
                print(f"  {target}: p50 {done.p50:.1f}, p95 {done.p95:.1f}; processor time each: ", end="")
                print(each(seconds, done.count))
    medians = {target: statistics.median(found) for target, found in rates.items()}
    ratio = medians["quarry"] / medians["reference"]
    print(f"{name}: {medians['quarry']:.0f}/s, reference {medians['reference']:.0f}/s, ratio {ratio:.2f}")


@asynccontextmanager
async def _reference(system: System) -> AsyncIterator[ServiceProcess]:
    """The bare application as a process of its own."""
    stack = system.stack
    environment = {**stack.environment("projects"), reference.DATABASE_URL: stack.database_url("projects")}
    bare = ServiceProcess(
        "projects", environment, any_free(), factory=f"{reference.__name__}:create_app", cwd=stack.home.root
    )
    await bare.start()
    try:
        await bare.wait_ready()
        yield bare
    finally:
        await bare.stop()


def _tell(what: str, done: Load) -> None:
    print(f"{what}: {done.rate:.0f}/s, p50 {done.p50:.1f}, p95 {done.p95:.1f}, failed {dict(done.failed) or 'none'}")
