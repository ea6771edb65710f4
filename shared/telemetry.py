"""Traces and logs of one process.

One trace follows a request from the gateway through HTTP (`traceparent` header), the outbox row, the stream entry, the
job row and the SSE frame: each hop stores `current_traceparent()` and the next one continues it with `span(...)`.
Logs are structured; every line carries the trace id and whatever `bind(...)` has added for the work at hand.
Whatever a client sends, no value of a line is longer than `MOST_LOGGED` characters and none of a span longer than
`MOST_OF_A_SPAN`.
"""

import json
import logging
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

import orjson
import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.settings import LogFormat, ServiceSettings

MOST_LOGGED: Final = 1000
MOST_OF_A_SPAN: Final = 1000
# Only the end of a stack trace is kept, where the error is.
MOST_OF_A_STACK_TRACE: Final = 16_000

_PROPAGATOR = TraceContextTextMapPropagator()
# Stands for whatever provider the process sets later.
_TRACER = trace.get_tracer("quarry")

__all__ = (
    "SpanKind",
    "bind",
    "configure",
    "current_traceparent",
    "detached_span",
    "flush",
    "get_logger",
    "mark_failed",
    "span",
)


def configure(settings: ServiceSettings) -> None:
    """Set up logging and, once per process, the tracer provider. Without an OTLP endpoint spans live in the logs."""
    _configure_logging(settings)
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        provider = TracerProvider(
            resource=Resource.create({"service.name": f"quarry-{settings.service}"}),
            span_limits=SpanLimits(max_attribute_length=MOST_OF_A_SPAN),
        )
        if settings.otlp_endpoint:
            # Imported only where spans are exported: it takes 4 MB.
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

            exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces")
            provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)


def flush() -> None:
    """Hand finished spans to the exporter; called when the process stops."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.force_flush(timeout_millis=2000)


def current_traceparent() -> str | None:
    """The W3C `traceparent` of the current span, to be stored with an event or a job."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def span(
    name: str,
    *,
    parent: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, str | int | float | bool] | None = None,
) -> Iterator[Span]:
    """A span as a block; `parent` is a `traceparent` from elsewhere, and an empty one begins a trace of its own. An
    exception marks the span as failed and propagates."""
    context = None if parent is None else _PROPAGATOR.extract({"traceparent": parent}, Context())
    with _TRACER.start_as_current_span(name, context=context, kind=kind, attributes=dict(attributes or {})) as current:
        yield current


@contextmanager
def detached_span(
    name: str, *, kind: SpanKind = SpanKind.INTERNAL, attributes: Mapping[str, str | int | float | bool] | None = None
) -> Iterator[Span]:
    """As `span`, without becoming the parent of what begins inside the block: for a block that other code runs in
    between, as in a generator."""
    with _TRACER.start_span(name, kind=kind, attributes=dict(attributes or {})) as started:
        yield started


def mark_failed(current: Span, reason: str) -> None:
    current.set_status(StatusCode.ERROR, reason)


@contextmanager
def bind(**values: object) -> Iterator[None]:
    """Add `values` to every log line written inside the block, and to no other."""
    with structlog.contextvars.bound_contextvars(
        **{key: str(value) for key, value in values.items() if value is not None}
    ):
        yield


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _add_trace(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        entry["trace_id"] = format(context.trace_id, "032x")
        entry["span_id"] = format(context.span_id, "016x")
    return entry


def _bounded(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in entry.items():
        if not isinstance(value, str):
            continue
        if key == "exception":
            if len(value) > MOST_OF_A_STACK_TRACE:
                entry[key] = f"[{len(value) - MOST_OF_A_STACK_TRACE} more]…{value[-MOST_OF_A_STACK_TRACE:]}"
        elif len(value) > MOST_LOGGED:
            entry[key] = f"{value[:MOST_LOGGED]}…[{len(value) - MOST_LOGGED} more]"
    return entry


def _json(entry: MutableMapping[str, Any], **_: Any) -> str:
    try:
        return orjson.dumps(entry, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # A lone surrogate, or a number of more than 64 bits.
        return json.dumps(entry, default=repr)


def _configure_logging(settings: ServiceSettings) -> None:
    def add_service(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        entry["service"] = settings.service
        return entry

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        add_service,
    ]
    final: list[structlog.typing.Processor]
    if settings.log_format is LogFormat.JSON:
        final = [structlog.processors.format_exc_info, _bounded, structlog.processors.JSONRenderer(_json)]
    else:
        # Not the default formatter: it shows local variables, and with them secrets.
        final = [
            _bounded,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    for old in [item for item in root.handlers if getattr(item, "quarry", False)]:
        root.removeHandler(old)
    handler.quarry = True  # type: ignore[attr-defined]  # marks the handler that a second configure() replaces
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    for noisy in (
        "uvicorn.access",
        "uvicorn.error",
        "httpx",
        "aiohttp.access",
        "alembic.runtime.migration",
        "faststream",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Its warnings are about what clients send.
    logging.getLogger("mcp").setLevel(logging.ERROR)
