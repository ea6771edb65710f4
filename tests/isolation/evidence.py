"""What the product leaves behind while it works: logs, spans, metrics, rows, Redis. Collected to be searched."""

import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import asyncpg
import httpx
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis.asyncio import Redis

from infra.local.stack import Stack
from infra.postgres.roles import DATABASE
from shared.migrations import SERVICES_WITH_SCHEMA
from tests.isolation.people import PLAIN

_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) AS name,
       EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id') AS of_tenants
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY($1) AND c.relkind IN ('r', 'p') ORDER BY 1
"""


class Lines(logging.Handler):
    """Keeps every line as the product's own handler would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def logs() -> Iterator[list[str]]:
    """All lines of the block. The product's own loggers say everything."""
    root = logging.getLogger()
    collecting = Lines()
    own = [handler for handler in root.handlers if getattr(handler, "quarry", False)]
    collecting.setFormatter(own[0].formatter)
    loggers = [logging.getLogger(name) for name in ("services", "shared")]
    root.addHandler(collecting)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    try:
        yield collecting.lines
    finally:
        root.removeHandler(collecting)
        for logger in loggers:
            logger.setLevel(logging.NOTSET)


@contextmanager
def spans() -> Iterator[InMemorySpanExporter]:
    """All spans that end within the block."""
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()


def text_of(span: ReadableSpan) -> str:
    """Everything a span tells."""
    events = [(event.name, dict(event.attributes or {})) for event in span.events]
    return repr((span.name, dict(span.attributes or {}), events, span.status.description, span.resource.attributes))


async def metrics(stack: Stack) -> dict[str, str]:
    """What each service tells Prometheus, the gateway on its internal port."""
    found = {}
    async with httpx.AsyncClient(timeout=60, verify=PLAIN) as client:
        for name in (*SERVICES_WITH_SCHEMA, "gateway-metrics"):
            answer = await client.get(f"http://127.0.0.1:{stack.ports[name]}/metrics")
            assert answer.status_code == 200, answer.text
            found[name] = answer.text
    return found


async def tables_with(stack: Stack, words: Iterable[str], *, but_of: str | None = None) -> dict[str, int]:
    """Tables with rows that hold one of the words as text or bytes, and how many; without those of `but_of`."""
    wanted = [form for word in words for form in (word, word.encode().hex())]
    admin = await asyncpg.connect(stack.postgres.admin_dsn(DATABASE))
    try:
        found = {}
        for table in await admin.fetch(_TABLES, list(SERVICES_WITH_SCHEMA)):
            if but_of is not None and not table["of_tenants"]:
                continue
            other = "AND t.tenant_id::text <> $2" if but_of is not None else ""
            # The table's name comes from the catalogue, quoted by the server itself.
            statement = await admin.fetchval(
                "SELECT 'SELECT count(*)::int FROM ' || $1 || ' t WHERE EXISTS (SELECT 1 FROM unnest($1::text[]) w "
                "WHERE strpos(t::text, w) > 0) ' || $2",
                table["name"],
                other,
            )
            rows = await admin.fetchval(statement, wanted, *([but_of] if but_of is not None else []))
            if rows:
                found[table["name"]] = rows
        return found
    finally:
        await admin.close()


async def redis_contents(redis: Redis) -> AsyncIterator[tuple[str, str]]:
    """Every key with all that is in it. A stream gives one item per entry."""
    async for raw in redis.scan_iter(count=1000):
        key = raw.decode(errors="replace")
        kind = cast(bytes, await redis.type(raw)).decode()
        if kind == "stream":
            for _, fields in await cast(Any, redis.xrange(raw)):
                yield key, repr(fields)
            continue
        reading: dict[str, Any] = {
            "string": lambda raw=raw: redis.get(raw),
            "hash": lambda raw=raw: redis.hgetall(raw),
            "set": lambda raw=raw: redis.smembers(raw),
            "zset": lambda raw=raw: redis.zrange(raw, 0, -1),
            "list": lambda raw=raw: redis.lrange(raw, 0, -1),
        }
        yield key, repr(await reading[kind]())


@asynccontextmanager
async def overheard(redis: Redis) -> AsyncIterator[list[str]]:
    """Everything published on any channel during the block; complete once the block has ended."""
    heard: list[str] = []
    async with redis.pubsub(ignore_subscribe_messages=False) as channels:
        await channels.psubscribe("*")
        assert await channels.get_message(timeout=60) is not None  # subscribed
        yield heard
        while message := await channels.get_message(timeout=1):
            heard.append(repr((message["channel"], message["data"])))
