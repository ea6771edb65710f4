"""Alert rules say what happened and what to do, and ask only for metrics that services export."""

import re
from typing import Any

import httpx
import yaml

from infra.local.home import ROOT
from services.projects.main import create_app
from shared.metrics import Metrics
from tests.support.serving import in_process
from tests.support.stacks import EnvironmentOf

ALERTS = ROOT / "infra" / "prometheus" / "alerts.yml"
# What Prometheus itself knows about what it scrapes.
PROMETHEUS_OWN = {"up"}
NOT_A_METRIC = {"max", "min", "sum", "by", "service", "handler", "stream", "source", "job", "quarry"}
SEVERITIES = {"warning", "critical"}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def asked_for(expression: str) -> set[str]:
    return set(re.findall(r"\b[a-z_]+\b", expression)) - NOT_A_METRIC


async def test_every_metric_of_a_rule_is_exported(service_environment: EnvironmentOf) -> None:
    async with in_process(create_app, await service_environment("projects")) as (_, client):
        exported = described(await client.get("/metrics"))
    wanted = set().union(*(asked_for(rule["expr"]) for rule in rules()))
    assert len(wanted) > 5
    assert wanted - PROMETHEUS_OWN <= exported


async def test_labels_that_rules_group_by_are_there(service_environment: EnvironmentOf) -> None:
    async with in_process(create_app, await service_environment("projects")) as (app, client):
        metrics: Metrics = app.state.metrics
        assert metrics
        text = (await client.get("/metrics")).text
    assert 'quarry_stream_pending_oldest_seconds{service="projects",stream="events.indexing"}' in text
    assert 'quarry_source_up{service="projects",source="redis"}' in text


def test_every_rule_tells_what_happened_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) >= 5
    for rule in rules():
        assert rule["annotations"]["summary"].count("\n") == 0, rule["alert"]
        assert len(rule["annotations"]["action"]) > 30, rule["alert"]
        assert rule["labels"]["severity"] in SEVERITIES
        assert re.fullmatch(r"\d+[sm]", rule["for"])


def described(answer: httpx.Response) -> set[str]:
    """Names of the exported metrics, those without a value so far included."""
    assert answer.status_code == 200
    return set(re.findall(r"^# TYPE (\S+) ", answer.text, re.MULTILINE))
