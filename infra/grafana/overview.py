"""The first board: the state of the whole system, in the order in which an operator asks.

    python -m infra.grafana.overview        writes boards/quarry.json, which Grafana loads

Values that every process of a service reports alike are shown as their maximum, what a process counts itself as a sum.
"""

import json
from pathlib import Path
from typing import Final

from infra.grafana.panels import Panel, Query, Row, board

FILE: Final = Path(__file__).parent / "boards" / "quarry.json"
_OF = '{service=~"$service"}'


def _rate(metric: str, by: str = "", where: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{where}[$__rate_interval]))"


def _share(metric: str, where: str, by: str = "") -> str:
    return f"{_rate(metric, by, where)} / {_rate(metric, by)}"


def _quantile(share: float, metric: str, by: str = "", where: str = "") -> str:
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', grouped, where)})"


_SERVED = Row(
    "Requests",
    [
        Panel(
            "Requests",
            [Query(_rate("quarry_http_requests_total", "service"), "{{service}}")],
            "Per second. The gateway's come from clients, the other services' from the gateway and each other.",
            unit="reqps",
        ),
        Panel(
            "Errors",
            [
                Query(_share("quarry_http_requests_total", '{status="5xx"}', by="service"), "{{service}}"),
            ],
            "Share of responses with a 5xx status.",
            unit="percentunit",
            warn=0.01,
        ),
        Panel(
            "Response time, p95",
            [Query(_quantile(0.95, "quarry_http_request_seconds", "service"), "{{service}}")],
            "Until the response begins. The service level is half a second for anything but transfers.",
            unit="s",
            warn=0.5,
        ),
        Panel(
            "Requests by route",
            [
                Query(
                    _rate("quarry_http_requests_total", "service, method, route", _OF),
                    "{{service}} {{method}} {{route}}",
                )
            ],
            "For the selected services.",
            unit="reqps",
        ),
        Panel(
            "Refused and failed, by route",
            [
                Query(
                    _rate(
                        "quarry_http_requests_total",
                        "service, route, status",
                        '{service=~"$service",status=~"4xx|5xx|aborted"}',
                    ),
                    "{{service}} {{route}} {{status}}",
                )
            ],
            "For the selected services. `aborted`: the client disconnected before the response began.",
            unit="reqps",
        ),
        Panel(
            "Response time by route, p95",
            [Query(_quantile(0.95, "quarry_http_request_seconds", "service, route", _OF), "{{service}} {{route}}")],
            "For the selected services.",
            unit="s",
        ),
    ],
)

_GATEWAY = Row(
    "Gateway",
    [
        Panel(
            "Upstream response time, p95",
            [Query(_quantile(0.95, "quarry_upstream_seconds", "upstream"), "{{upstream}}")],
            "Of each service as the gateway sees it, including the wait for a replica and retries.",
            unit="s",
            warn=0.5,
        ),
        Panel(
            "Replicas",
            [Query("min by (upstream, state) (quarry_replicas)", "{{upstream}} {{state}}")],
            "Found in DNS, by circuit breaker state: `closed` ones get requests; `open` ones failed and get none.",
        ),
        Panel(
            "In progress",
            [
                Query("sum by (upstream) (quarry_requests_in_flight)", "{{upstream}}"),
                Query("sum by (upstream) (quarry_requests_waiting)", "{{upstream}} waiting"),
            ],
            "Short requests and transfers; `waiting` are those for which no replica responds at the moment.",
        ),
        Panel(
            "Rate limited",
            [Query(_rate("quarry_rate_limited_total", "limit"), "{{limit}}")],
            "Requests refused because an address, a user or a tenant exceeded its limit.",
            unit="reqps",
        ),
        Panel(
            "Token cache",
            [
                Query(_share("quarry_token_cache_lookups_total", '{outcome="hit"}'), "hits"),
            ],
            "Share of lookups that needed no request to identity.",
            unit="percentunit",
        ),
    ],
)

_EVENTS = Row(
    "Events",
    [
        Panel(
            "Outbox lag",
            [Query("max by (service) (quarry_outbox_oldest_seconds)", "{{service}}")],
            "Age of the oldest committed event that is not published yet.",
            unit="s",
            warn=60,
        ),
        Panel(
            "Unpublished",
            [Query("max by (service) (quarry_outbox_unpublished)", "{{service}}")],
            "Committed events waiting for the relay.",
        ),
        Panel(
            "Relay leader",
            [Query("max by (service) (quarry_relay_leading)", "{{service}}")],
            "1 while a process of the service publishes; 0 for more than a second or two means that none does.",
        ),
        Panel(
            "Pending",
            [Query("max by (service, stream) (quarry_stream_pending_oldest_seconds)", "{{service}} {{stream}}")],
            "Age of the oldest entry delivered to a service and not acknowledged yet.",
            unit="s",
            warn=120,
        ),
        Panel(
            "Unread",
            [Query("max by (service, stream) (quarry_stream_unread)", "{{service}} {{stream}}")],
            "Entries not delivered to a service yet.",
        ),
        Panel(
            "Dead letters",
            [Query("max by (service, handler) (quarry_dead_letters_open)", "{{service}} {{handler}}")],
            "Not redriven yet. `dead-letters list` shows them.",
            warn=1,
        ),
        Panel(
            "Handled",
            [
                Query(_rate("quarry_events_handled_total", "service"), "{{service}}"),
                Query(_rate("quarry_events_failed_total", "service"), "{{service}} failed"),
            ],
            "Events and failed attempts per second.",
            unit="cps",
        ),
        Panel(
            "Time to handle, p95",
            [Query(_quantile(0.95, "quarry_handler_seconds", "handler"), "{{handler}}")],
            "Per event.",
            unit="s",
        ),
    ],
)

_INDEXING = Row(
    "Indexing",
    [
        Panel(
            "Upload to searchable",
            [
                Query(_quantile(0.5, "quarry_upload_to_searchable_seconds"), "p50"),
                Query(_quantile(0.95, "quarry_upload_to_searchable_seconds"), "p95"),
            ],
            "Until search finds the upload. The service level is a second for a note; large documents take longer.",
            unit="s",
            warn=1,
        ),
        Panel(
            "Queue age",
            [Query("max(quarry_job_queue_age_seconds)", "oldest")],
            "How long the oldest waiting job has been due.",
            unit="s",
            warn=60,
        ),
        Panel(
            "Jobs",
            [Query("max by (state) (quarry_jobs)", "{{state}}")],
            "Unfinished jobs.",
            stacked=True,
        ),
        Panel(
            "Slots",
            [Query("sum(quarry_job_slots_busy)", "busy"), Query("sum(quarry_job_slots)", "all")],
            "Jobs that all workers are running, and the most they can run.",
        ),
        Panel(
            "Time in a stage, p95",
            [Query(_quantile(0.95, "quarry_job_stage_seconds", "stage"), "{{stage}}")],
            "Of finished stages.",
            unit="s",
        ),
        Panel(
            "Ended",
            [Query(_rate("quarry_jobs_ended_total", "outcome"), "{{outcome}}")],
            "`postponed` jobs will be retried; `lost` ones were taken over by another worker.",
            unit="cps",
        ),
        Panel(
            "Generations",
            [Query("max by (state) (quarry_generations)", "{{state}}")],
            "Of points: one that is active for each project; those being built, kept for a way back, and dropped.",
        ),
        Panel(
            "Written again",
            [
                Query(_rate("quarry_reindexed_chunks_total"), "chunks"),
                Query("max(quarry_generation_documents)", "documents that wait"),
            ],
            "Per second, for new generations and for points that were lost.",
        ),
        Panel(
            "Drift",
            [Query(_rate("quarry_vector_drift_total", "kind"), "{{kind}}")],
            "Documents whose points differed from their chunks; they are repaired.",
            unit="cps",
        ),
    ],
)

_SEARCH = Row(
    "Search and agents",
    [
        Panel(
            "Time in a stage of a search, p95",
            [Query(_quantile(0.95, "quarry_search_stage_seconds", "stage"), "{{stage}}")],
            "Of searches that were answered; `waiting` is for an upload that the client wants to find.",
            unit="s",
            warn=0.5,
        ),
        Panel(
            "Partial",
            [Query(_rate("quarry_search_partial_total", "reason"), "{{reason}}")],
            "Searches that left something out, because its time was over or what gives it did not respond.",
            unit="cps",
        ),
        Panel(
            "Time of a run, p95",
            [Query(_quantile(0.95, "quarry_run_seconds", "agent"), "{{agent}}")],
            "From its creation to its end.",
            unit="s",
        ),
        Panel(
            "Time in a step of a run, p95",
            [Query(_quantile(0.95, "quarry_run_step_seconds", "step"), "{{step}}")],
            "Of steps that ended.",
            unit="s",
        ),
        Panel(
            "Runs ended",
            [Query(_rate("quarry_runs_ended_total", "agent, status"), "{{agent}} {{status}}")],
            "By the workers; a client that cancels a run ends it as well, and is not counted.",
            unit="cps",
        ),
        Panel(
            "Run slots",
            [Query("sum(quarry_run_slots_busy)", "busy"), Query("sum(quarry_run_slots)", "all")],
            "Runs that all workers are executing, and the most they can execute.",
        ),
    ],
)

_STREAMS = Row(
    "Event streams",
    [
        Panel(
            "Open",
            [Query("sum by (service) (quarry_sse_open)", "{{service}}")],
            "At the gateway and at the notifier; a lasting difference means streams that no client reads.",
        ),
        Panel(
            "Frames",
            [Query(_rate("quarry_sse_frames_total"), "written")],
            "Per second, including heartbeats.",
            unit="cps",
        ),
        Panel(
            "Ended",
            [Query(_rate("quarry_sse_ended_total", "reason"), "{{reason}}")],
            "`gone`: the client disconnected; `too_slow` and `stuck`: it was cut off and resumes.",
            unit="cps",
        ),
    ],
)

_SOURCES = Row(
    "Sources of this board",
    [
        Panel(
            "Scraped",
            [Query('min by (container) (up{job="quarry"})', "{{container}}")],
            "0 if a process does not respond.",
        ),
        Panel(
            "Read",
            [Query("min by (service, source) (quarry_source_up)", "{{service}} {{source}}")],
            "0 if a service cannot read Postgres or Redis for its metrics.",
        ),
    ],
)

ROWS: Final = (_SERVED, _GATEWAY, _EVENTS, _INDEXING, _SEARCH, _STREAMS, _SOURCES)


def rendered() -> str:
    """The content of `FILE`."""
    made = board(
        "Quarry", "quarry", ROWS, variable="service", values="label_values(quarry_http_requests_total, service)"
    )
    return json.dumps(made, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(rendered(), encoding="utf-8")
