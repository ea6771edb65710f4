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
            "A second. The gateway's are clients'; those of the others come from it and from each other.",
            unit="reqps",
        ),
        Panel(
            "Errors",
            [
                Query(_share("quarry_http_requests_total", '{status="5xx"}', by="service"), "{{service}}"),
            ],
            "Share of answers with a status of 500 and above.",
            unit="percentunit",
            warn=0.01,
        ),
        Panel(
            "Time to answer, p95",
            [Query(_quantile(0.95, "quarry_http_request_seconds", "service"), "{{service}}")],
            "Until an answer begins. Clients are promised half a second for what is no transfer.",
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
            "Of the chosen services.",
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
            "Of the chosen services. `aborted`: the client left before the answer began.",
            unit="reqps",
        ),
        Panel(
            "Time to answer by route, p95",
            [Query(_quantile(0.95, "quarry_http_request_seconds", "service, route", _OF), "{{service}} {{route}}")],
            "Of the chosen services.",
            unit="s",
        ),
    ],
)

_GATEWAY = Row(
    "Gateway",
    [
        Panel(
            "Time the services took, p95",
            [Query(_quantile(0.95, "quarry_upstream_seconds", "upstream"), "{{upstream}}")],
            "As the gateway sees it, waiting for a replica and trying again included.",
            unit="s",
            warn=0.5,
        ),
        Panel(
            "Replicas",
            [Query("min by (upstream, state) (quarry_replicas)", "{{upstream}} {{state}}")],
            "Found by DNS. `closed` ones work, `open` ones are set aside because they did not answer.",
        ),
        Panel(
            "Under way",
            [
                Query("sum by (upstream) (quarry_requests_in_flight)", "{{upstream}}"),
                Query("sum by (upstream) (quarry_requests_waiting)", "{{upstream}} waiting"),
            ],
            "Short requests and transfers; `waiting` are those for which no replica answers at the moment.",
        ),
        Panel(
            "Rate limited",
            [Query(_rate("quarry_rate_limited_total", "limit"), "{{limit}}")],
            "Requests refused because an address, a user or a tenant has used up its limit.",
            unit="reqps",
        ),
        Panel(
            "Token cache",
            [
                Query(_share("quarry_token_cache_lookups_total", '{outcome="hit"}'), "hits"),
            ],
            "Share of requests whose credential identity did not have to be asked about.",
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
            "Age of the oldest committed event that is not on its stream yet.",
            unit="s",
            warn=60,
        ),
        Panel(
            "Unpublished",
            [Query("max by (service) (quarry_outbox_unpublished)", "{{service}}")],
            "Committed events that wait for the relay.",
        ),
        Panel(
            "Relay leader",
            [Query("max by (service) (quarry_relay_leading)", "{{service}}")],
            "1 where a process publishes; 0 for longer than a second or two means that nobody does.",
        ),
        Panel(
            "Pending",
            [Query("max by (service, stream) (quarry_stream_pending_oldest_seconds)", "{{service}} {{stream}}")],
            "Age of the oldest entry that a service was given and has not acknowledged.",
            unit="s",
            warn=120,
        ),
        Panel(
            "Unread",
            [Query("max by (service, stream) (quarry_stream_unread)", "{{service}} {{stream}}")],
            "Entries that a service has not been given yet.",
        ),
        Panel(
            "Dead letters",
            [Query("max by (service, handler) (quarry_dead_letters_open)", "{{service}} {{handler}}")],
            "Not redriven. `dead-letters list` says more.",
            warn=1,
        ),
        Panel(
            "Handled",
            [
                Query(_rate("quarry_events_handled_total", "service"), "{{service}}"),
                Query(_rate("quarry_events_failed_total", "service"), "{{service}} failed"),
            ],
            "Events a second, and attempts that failed.",
            unit="cps",
        ),
        Panel(
            "Time to handle, p95",
            [Query(_quantile(0.95, "quarry_handler_seconds", "handler"), "{{handler}}")],
            "For each event.",
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
            "Until an upload can be found. A second is promised for a note; large documents take longer.",
            unit="s",
            warn=1,
        ),
        Panel(
            "Queue age",
            [Query("max(quarry_job_queue_age_seconds)", "oldest")],
            "How long the oldest job that nobody works on has been due.",
            unit="s",
            warn=60,
        ),
        Panel(
            "Jobs",
            [Query("max by (state) (quarry_jobs)", "{{state}}")],
            "That have not ended.",
            stacked=True,
        ),
        Panel(
            "Slots",
            [Query("sum(quarry_job_slots_busy)", "busy"), Query("sum(quarry_job_slots)", "all")],
            "Jobs that all workers make now, and could make at a time.",
        ),
        Panel(
            "Time in a stage, p95",
            [Query(_quantile(0.95, "quarry_job_stage_seconds", "stage"), "{{stage}}")],
            "Of stages that were finished.",
            unit="s",
        ),
        Panel(
            "Ended",
            [Query(_rate("quarry_jobs_ended_total", "outcome"), "{{outcome}}")],
            "`postponed` will be tried again; `lost` were taken over by another worker.",
            unit="cps",
        ),
    ],
)

_STREAMS = Row(
    "Event streams of clients",
    [
        Panel(
            "Open",
            [Query("sum by (service) (quarry_sse_open)", "{{service}}")],
            "At the gateway and at the notifier: lasting differences are streams that nobody reads.",
        ),
        Panel(
            "Frames", [Query(_rate("quarry_sse_frames_total"), "written")], "A second, heartbeats included.", unit="cps"
        ),
        Panel(
            "Ended",
            [Query(_rate("quarry_sse_ended_total", "reason"), "{{reason}}")],
            "`gone` are clients that left; `too_slow` and `stuck` were cut off and resume.",
            unit="cps",
        ),
    ],
)

_SOURCES = Row(
    "What this board knows",
    [
        Panel(
            "Scraped", [Query('min by (container) (up{job="quarry"})', "{{container}}")], "0 where one does not answer."
        ),
        Panel(
            "Read",
            [Query("min by (service, source) (quarry_source_up)", "{{service}} {{source}}")],
            "0 where a service cannot read Postgres or Redis for its metrics.",
        ),
    ],
)

ROWS: Final = (_SERVED, _GATEWAY, _EVENTS, _INDEXING, _STREAMS, _SOURCES)


def rendered() -> str:
    """The content of `FILE`."""
    made = board(
        "Quarry", "quarry", ROWS, variable="service", values="label_values(quarry_http_requests_total, service)"
    )
    return json.dumps(made, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(rendered(), encoding="utf-8")
