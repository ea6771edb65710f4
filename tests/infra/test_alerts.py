"""Alert rules say what happened and what to do, and ask only for metrics that services export."""

import re
from typing import Any

import yaml

from infra.local.home import ROOT
from services.projects.main import create_app
from tests.support.metric_names import exported
from tests.support.serving import in_process
from tests.support.stacks import EnvironmentOf

ALERTS = ROOT / "infra" / "prometheus" / "alerts.yml"
# What Prometheus itself knows about what it scrapes.
PROMETHEUS_OWN = {"up"}
SEVERITIES = {"warning", "critical"}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    assert len({group["name"] for group in groups}) == len(groups)
    return [rule for group in groups for rule in group["rules"]]


def asked_for(expression: str) -> set[str]:
    return set(re.findall(r"\bquarry_[a-z_]+\b|\bup\b(?={)", expression))


def test_every_metric_of_a_rule_is_exported() -> None:
    known = exported() | PROMETHEUS_OWN
    for rule in rules():
        assert asked_for(rule["expr"]), rule["alert"]
        assert asked_for(rule["expr"]) <= known, rule["alert"]


async def test_labels_that_rules_group_by_are_there(service_environment: EnvironmentOf) -> None:
    async with in_process(create_app, await service_environment("projects")) as (_, client):
        text = (await client.get("/metrics")).text
    assert 'quarry_stream_pending_oldest_seconds{service="projects",stream="events.indexing"}' in text
    assert 'quarry_source_up{service="projects",source="redis"}' in text


def test_every_rule_tells_what_happened_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) >= 10
    for rule in rules():
        assert rule["annotations"]["summary"].count("\n") == 0, rule["alert"]
        assert len(rule["annotations"]["action"]) > 30, rule["alert"]
        assert rule["labels"]["severity"] in SEVERITIES
        assert re.fullmatch(r"\d+[sm]", rule["for"])


def test_a_sentence_names_only_labels_that_its_expression_keeps() -> None:
    for rule in rules():
        named = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", rule["expr"]))))
        matched = set(re.findall(r'(\w+)="', rule["expr"])) if "absent(" in rule["expr"] else set()
        own = {"instance", "job"} if "up{" in rule["expr"] else set()
        assert named <= kept | matched | own, rule["alert"]


def test_nobody_at_work_is_an_alert_and_so_is_a_service_that_is_gone() -> None:
    absent = {metric for rule in rules() for metric in re.findall(r"absent\((\w+)", rule["expr"])}
    assert absent == {"quarry_job_slots", "quarry_source_up", "quarry_sse_open"}
    (gone,) = [rule["expr"] for rule in rules() if rule["alert"] == "QuarryServiceGone"]
    assert set(re.findall(r'service="(\w+)"', gone)) == {"gateway", "identity", "projects", "indexing", "notifier"}
