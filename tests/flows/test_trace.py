"""One trace from the gateway to the frame on the client's screen; the client's own word on it does not count."""

import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from infra.local.stack import Stack
from tests.support.documents import note
from tests.support.one_process import one_process_system, tenant
from tests.support.sse import listening
from tests.support.system import create_project


@pytest.fixture(scope="module")
async def whole(folders: Callable[[str], Path]) -> AsyncIterator[Stack]:
    async with one_process_system(folders("traced")) as stack:
        yield stack


@pytest.fixture
def exporter(whole: Stack) -> Iterator[InMemorySpanExporter]:
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    exporter = InMemorySpanExporter()
    processor = SimpleSpanProcessor(exporter)
    provider.add_span_processor(processor)
    yield exporter
    exporter.shutdown()


async def test_one_trace_goes_from_the_request_to_the_sse_frame(
    whole: Stack, exporter: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    claimed = secrets.token_hex(16)
    caplog.set_level(logging.DEBUG)
    async with tenant(whole, "traced") as (_, client):
        project = await create_project(client)
        async with listening(client, f"/v1/projects/{project}/events") as live:
            answer = await client.post(
                f"/v1/projects/{project}/documents",
                params={"name": "note.txt"},
                content=note(1),
                headers={"Content-Type": "text/plain", "traceparent": f"00-{claimed}-{secrets.token_hex(8)}-01"},
            )
            assert answer.status_code == 201
            await live.until(lambda seen: seen.of("document.indexed"))

    (uploaded,) = live.of("document.uploaded")
    trace_id = uploaded.data["traceparent"].split("-")[1]
    assert trace_id != claimed
    for event in ("document.uploaded", "document.indexing", "document.indexed"):
        (frame,) = live.of(event)
        assert frame.data["traceparent"].split("-")[1] == trace_id, event

    spans = [span for span in exporter.get_finished_spans() if _trace_of(span) == trace_id]
    names = [span.name for span in spans]
    path = f"POST /v1/projects/{project}/documents"
    assert names.count(path) == 2, "gateway and projects"
    for part in ("handle indexing.", "index ", "handle projects.", "handle notifier."):
        assert [name for name in names if name.startswith(part)], (part, sorted(set(names)))

    logged = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    told = {
        str(entry.get("logger", "")).split(".")[1]
        for entry in logged
        if entry.get("trace_id") == trace_id and "services." in str(entry.get("logger"))
    }
    assert {"indexing"} <= told


def _trace_of(span: ReadableSpan) -> str:
    context = span.get_span_context()
    return format(context.trace_id, "032x") if context is not None else ""
