"""What is behind the gateway: internal tokens, and the victim's rows as the administrator of the database sees them."""

import uuid
from pathlib import Path

import asyncpg
import httpx

from infra.local.stack import Stack
from infra.postgres.roles import DATABASE
from shared.migrations import SERVICES_WITH_SCHEMA
from shared.redis_clients import command_client, stream_of
from tests.isolation.people import PLAIN
from tests.support.polling import eventually

# What a look at something changes, and what the product does by itself after a change.
_VOLATILE = [
    *("last_used_at", "last_seen_at", "published_at", "entry_id", "heartbeat_at", "updated_at"),
]
_UNPUBLISHED = """
SELECT (SELECT count(*) FROM identity.outbox WHERE published_at IS NULL)
     + (SELECT count(*) FROM projects.outbox WHERE published_at IS NULL)
     + (SELECT count(*) FROM indexing.outbox WHERE published_at IS NULL)
     + (SELECT count(*) FROM notifier.outbox WHERE published_at IS NULL)
     + (SELECT count(*) FROM indexing.jobs WHERE state NOT IN ('indexed', 'failed', 'cancelled'))
     + (SELECT count(*) FROM indexing.vector_changes)
     + (SELECT count(*) FROM indexing.generation_documents)
     + (SELECT count(*) FROM projects.blob_deletions)
     + (SELECT count(*) FROM projects.upload_expiries WHERE due_at <= now())
     + (SELECT count(*) FROM projects.exports WHERE status NOT IN ('ready', 'failed'))
     + (SELECT count(*) FROM projects.document_purges WHERE purged_at IS NULL)
"""
_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) AS name,
       array_agg(a.attname::text) FILTER (WHERE a.attname IN ('tenant_id', 'user_id', 'id')) AS columns
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = ANY($1) AND c.relkind = 'r' AND c.relname <> 'alembic_version'
GROUP BY 1 ORDER BY 1
"""


async def internal_tokens(stack: Stack, api_key: str) -> dict[str, str]:
    """What the gateway gets for a key: a token for each service."""
    environment = stack.environment("gateway")
    secret = Path(environment["QUARRY_GATEWAY_SERVICE_SECRET_FILE"]).read_text(encoding="utf-8")
    url = f"http://127.0.0.1:{stack.ports['identity']}"
    async with httpx.AsyncClient(base_url=url, timeout=60, verify=PLAIN) as identity:
        answer = await identity.post(
            "/internal/token",
            json={"credential_type": "api_key", "credential": api_key},
            auth=httpx.BasicAuth("gateway", secret),
        )
    assert answer.status_code == 200, answer.text
    tokens: dict[str, str] = answer.json()["tokens"]
    return tokens


async def until_quiet(stack: Stack) -> None:
    """Wait until no event, no job and no deletion is under way: what has been done so far is done everywhere."""
    admin = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
    redis = command_client(stack.redis.url())

    async def quiet() -> bool:
        if await admin.fetchval(_UNPUBLISHED):
            return False
        groups = [
            group
            for service in SERVICES_WITH_SCHEMA
            if await redis.exists(stream_of(service))
            for group in await redis.xinfo_groups(stream_of(service))
        ]
        return all(group["lag"] == 0 and group["pending"] == 0 for group in groups)

    try:
        await eventually(quiet, within=60, every=0.1)
    finally:
        await redis.aclose()
        await admin.close()


async def rows_of(stack: Stack, tenant_id: str, user_id: str) -> dict[str, tuple[int, str]]:
    """For each table: how many rows the victim has there, and a digest of them."""
    admin = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
    try:
        tables = await admin.fetch(_TABLES, list(SERVICES_WITH_SCHEMA))
        return {table["name"]: await _digest(admin, table, tenant_id, user_id) for table in tables if table["columns"]}
    finally:
        await admin.close()


async def _digest(
    admin: "asyncpg.Connection[asyncpg.Record]", table: asyncpg.Record, tenant_id: str, user_id: str
) -> tuple[int, str]:
    owned = "tenant_id" in table["columns"]
    column = "tenant_id" if owned else "user_id" if "user_id" in table["columns"] else "id"
    # Identifiers come from the catalogue, quoted by the server itself.
    statement = await admin.fetchval(
        "SELECT format('SELECT count(*)::int, coalesce(md5(string_agg((to_jsonb(t) - $2::text[])::text, $3 ORDER BY "
        "(to_jsonb(t) - $2::text[])::text)), $3) FROM %s t WHERE t.%I = $1', $1::text, $2::text)",
        table["name"],
        column,
    )
    owner = uuid.UUID(tenant_id if owned else user_id)
    rows, digest = await admin.fetchrow(statement, owner, _VOLATILE, "") or (0, "")
    return rows, digest
