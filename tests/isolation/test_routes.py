"""Every route of the product, tried by another tenant that knows all ids: the answers are those for what never existed.

The matrix is read from the merged OpenAPI document, so a new route is tried from the day it exists; one whose
parameters are unknown here fails the run. It is run with both guards, and with each of the two removed in turn.
"""

import re
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import httpx
from sqlalchemy import event

from infra.local.stack import Stack
from infra.postgres.roles import DATABASE
from shared import tenancy
from shared.migrations import SERVICES_WITH_SCHEMA
from tests.isolation.conftest import CANARY, Victim

# A body that would be accepted from somebody who may, where a route needs one.
BODIES: dict[str, Any] = {
    "PATCH /v1/projects/{project_id}": {"name": "stolen"},
    "PUT /v1/projects/{project_id}/members/{user_id}": {"role": "viewer"},
    "POST /v1/projects/{project_id}/documents": b"planted",
    "PATCH /v1/projects/{project_id}/documents/{document_id}": {"name": "stolen"},
    "POST /v1/projects/{project_id}/search": {"query": CANARY},
    "PATCH /v1/tenants/{tenant_id}": {"name": "stolen"},
    "PATCH /v1/members/{user_id}": {"role": "member"},
}
# The attacker cannot have the victim's secret: an invented one is what an attack looks like.
INVENTED = {"token": "invented-token-0123456789"}
# Answers that tell an outsider nothing because they look the same for every id.
SAME_FOR_ALL = {
    # Open to everybody, one provider's name in the path.
    "/auth/login/{provider}",
    "/auth/callback/{provider}",
}
# Only for browser sessions: an API key, which is what the attacker holds here, is refused before any id is looked at.
SESSIONS_ONLY = {"/v1/invitations/{token}/accept", "/v1/tenants/{tenant_id}/activate", "/v1/sessions/{session_id}"}
STREAM = re.compile(r"/events$")


async def test_another_tenant_gets_the_answers_for_what_never_existed(
    victim: Victim, attacker: httpx.AsyncClient
) -> None:
    await attack_every_route(victim, attacker)


async def test_without_the_orm_criterion_nothing_leaks(victim: Victim, attacker: httpx.AsyncClient) -> None:
    with no_orm_criterion():
        await attack_every_route(victim, attacker)


async def test_without_row_level_security_nothing_leaks(
    whole: Stack, victim: Victim, attacker: httpx.AsyncClient
) -> None:
    async with no_row_level_security(whole):
        await attack_every_route(victim, attacker)


async def test_the_victim_still_has_everything(victim: Victim) -> None:
    ids = victim.ids
    answer = await victim.client.get(f"/v1/projects/{ids['project_id']}/documents/{ids['document_id']}")
    assert (answer.status_code, answer.json()["name"]) == (200, f"{CANARY}.txt")
    found = await victim.client.post(f"/v1/projects/{ids['project_id']}/search", json={"query": CANARY})
    assert found.json()["items"][0]["document_id"] == ids["document_id"]


async def test_without_a_credential_every_route_is_closed(victim: Victim, attacker: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(base_url=attacker.base_url) as anonymous:
        for method, path in await routes(attacker):
            if path.startswith("/v1/"):
                answer = await anonymous.request(method, path.format(**ids_of(path, victim.ids)))
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), (method, path)


async def attack_every_route(victim: Victim, attacker: httpx.AsyncClient) -> None:
    tried = 0
    for method, path in await routes(attacker):
        if path in SAME_FOR_ALL or not path.startswith("/v1/"):
            continue
        if "{" in path:
            await attack_by_id(method, path, victim, attacker)
            tried += 1
        elif method == "GET":
            answer = await read(attacker, path)
            assert CANARY not in answer, path
            tried += 1
    assert tried > 20


async def attack_by_id(method: str, path: str, victim: Victim, attacker: httpx.AsyncClient) -> None:
    body = BODIES.get(f"{method} {path}")
    headers = {"If-Match": '"1"'}
    stolen = path.format(**ids_of(path, victim.ids))
    absent = path.format(**ids_of(path, {name: _another(value) for name, value in victim.ids.items()}))
    # The name is for uploads, which are refused without one before anything else; no other route minds it.
    options: dict[str, Any] = {"headers": headers, "params": {"name": "planted.txt"}}
    if body is not None:
        options["content" if isinstance(body, bytes) else "json"] = body
    on_victim = await attacker.request(method, stolen, **options)
    on_nothing = await attacker.request(method, absent, **options)
    assert on_victim.status_code == (403 if path in SESSIONS_ONLY else 404), (
        method,
        path,
        on_victim.status_code,
        on_victim.text,
    )
    assert CANARY not in on_victim.text, (method, path)
    assert _comparable(on_victim, stolen) == _comparable(on_nothing, absent), (method, path)


async def read(client: httpx.AsyncClient, path: str) -> str:
    """The answer to a GET; of an endless stream, its beginning."""
    if not STREAM.search(path):
        return (await client.get(path)).text
    async with client.stream("GET", path, headers={"Last-Event-ID": "0"}) as answer:
        async for chunk in answer.aiter_text():
            return chunk
    return ""


async def routes(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    described = (await client.get("/openapi.json")).json()
    methods = ("get", "post", "put", "patch", "delete")
    return [(method.upper(), path) for path, item in described["paths"].items() for method in methods if method in item]


def ids_of(path: str, ids: dict[str, str]) -> dict[str, str]:
    """Values of the parameters in `path`. A parameter nobody has thought of fails here: decide what attacks it."""
    return {name: {**ids, **INVENTED}[name] for name in re.findall(r"{(\w+)}", path)}


def _another(value: str) -> str:
    return str(uuid.uuid4()) if "-" in value else value


def _comparable(answer: httpx.Response, path: str) -> dict[str, Any]:
    """A problem document without what must differ from request to request."""
    return {**answer.json(), "request_id": "", "instance": answer.json()["instance"].replace(path, "")}


@contextmanager
def no_orm_criterion() -> Iterator[None]:
    event.remove(tenancy.TenantScopedSession, "do_orm_execute", tenancy._add_tenant_criterion)
    try:
        yield
    finally:
        event.listen(tenancy.TenantScopedSession, "do_orm_execute", tenancy._add_tenant_criterion)


@asynccontextmanager
async def no_row_level_security(stack: Stack) -> AsyncIterator[None]:
    """Postgres shows every row to every role for the time of the block."""
    admin = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
    tables = await admin.fetch(
        "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n "
        "ON n.oid = c.relnamespace WHERE n.nspname = ANY($1) AND c.relkind = 'r' AND c.relrowsecurity",
        list(SERVICES_WITH_SCHEMA),
    )
    try:
        for table in tables:
            await admin.execute(
                await admin.fetchval("SELECT 'ALTER TABLE ' || $1 || ' DISABLE ROW LEVEL SECURITY'", table["name"])
            )
        yield
    finally:
        for table in tables:
            await admin.execute(
                await admin.fetchval("SELECT 'ALTER TABLE ' || $1 || ' ENABLE ROW LEVEL SECURITY'", table["name"])
            )
        await admin.close()
