"""Profile `observability`: its parts find each other, its files fit together, and its board asks for what there is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.grafana import overview
from infra.grafana.panels import COLUMNS
from infra.local.home import ROOT
from shared.settings import ServiceSettings
from tests.infra.compose_files import COMPOSE_FILE, Configuration, as_resolved, as_written
from tests.support.metric_names import exported
from tests.support.serving import make_settings

PARTS = {"otel-collector", "tempo", "prometheus", "grafana"}
SERVICES = {"identity", "projects", "indexing", "indexing-worker", "notifier"}
GRAFANA_PORT = ROOT / "infra" / "docker" / "compose.grafana-port.yml"
COLLECTOR = "http://otel-collector:4318"
# Labels that metrics carry, and what Prometheus and a histogram add.
LABELS = {
    *{"service", "handler", "outcome", "stream", "source", "method", "route", "status", "upstream", "state", "limit"},
    *{"reason", "stage", "kind", "agent", "step"},
    *{"job", "instance", "container", "le"},
}


def read(*path: str) -> Any:
    return yaml.safe_load((ROOT / "infra").joinpath(*path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def compose() -> Configuration:
    return as_written({})


# --- containers ------------------------------------------------------------------------------------------------------


def test_the_profile_adds_its_four_parts_and_publishes_nothing(compose: Configuration) -> None:
    parts = {name for name, service in compose.services.items() if service.get("profiles") == ["observability"]}
    assert parts == PARTS
    assert not [name for name in PARTS if compose.services[name]["ports"]]


def test_only_those_who_ask_services_are_on_their_network(compose: Configuration) -> None:
    assert {name for name in PARTS if "backend" in compose.services[name]["networks"]} == {
        "otel-collector",
        "prometheus",
    }
    assert {name for name in PARTS if "observability" in compose.services[name]["networks"]} == PARTS
    assert not PARTS & {name for name, service in compose.services.items() if "data" in service["networks"]}
    assert compose.networks["observability"]["internal"] is True


def test_files_that_containers_read_exist_and_cannot_be_written(compose: Configuration) -> None:
    bound = [volume for name in PARTS for volume in compose.services[name]["volumes"] if volume["type"] == "bind"]
    assert len(bound) >= 6
    for volume in bound:
        assert (ROOT / volume["source"]).exists(), volume
        assert volume["read_only"] is True, volume


def test_images_are_of_one_version(compose: Configuration) -> None:
    for name in PARTS:
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", compose.services[name]["image"]), name
        if build := compose.services[name].get("build"):
            assert build["args"]["IMAGE"].rpartition(":")[2] == compose.services[name]["image"].rpartition(":")[2]


def test_grafana_lets_everybody_look_and_one_change(compose: Configuration) -> None:
    environment = compose.services["grafana"]["environment"]
    assert environment["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana_admin_password"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert [secret["source"] for secret in compose.services["grafana"]["secrets"]] == ["grafana_admin_password"]


def test_its_port_is_an_override_on_loopback() -> None:
    (port,) = yaml.safe_load(GRAFANA_PORT.read_text(encoding="utf-8"))["services"]["grafana"]["ports"]
    assert port == "127.0.0.1:${QUARRY_GRAFANA_PORT:-3000}:3000"


@pytest.mark.containers
def test_compose_takes_the_override() -> None:
    found = as_resolved({}, COMPOSE_FILE, GRAFANA_PORT)
    assert found.warnings == ""
    (port,) = found.services["grafana"]["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "3000", 3000)
    assert set(found.services["grafana"]["networks"]) == {"observability", "boards"}


def test_services_send_spans_only_where_they_are_told_to() -> None:
    assert COMPOSE_FILE.read_text(encoding="utf-8").count("QUARRY_OTLP_ENDPOINT: ${QUARRY_OTLP_ENDPOINT:-}\n") == 1
    observed = as_written({"QUARRY_OTLP_ENDPOINT": COLLECTOR})
    for name in (*SERVICES, "gateway"):
        assert observed.services[name]["environment"]["QUARRY_OTLP_ENDPOINT"] == COLLECTOR


def test_an_empty_endpoint_is_none() -> None:
    class Settings(ServiceSettings):
        service = "projects"

    base = {"QUARRY_REDIS_URL": "unix:///x", "QUARRY_SERVICE_SECRET": "x", "QUARRY_IDENTITY_URL": "http://identity"}
    assert not make_settings(Settings, {**base, "QUARRY_OTLP_ENDPOINT": ""}).otlp_endpoint


# --- traces ----------------------------------------------------------------------------------------------------------


def test_a_pipeline_names_only_what_is_defined_and_leaves_nothing_unused() -> None:
    collector = read("otel", "collector.yml")
    used: dict[str, set[str]] = {"extensions": set(collector["service"]["extensions"])}
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            used.setdefault(kind, set()).update(pipeline[kind])
    assert used == {kind: set(collector[kind]) for kind in ("extensions", "receivers", "processors", "exporters")}


def test_memory_is_limited_before_anything_else() -> None:
    for pipeline in read("otel", "collector.yml")["service"]["pipelines"].values():
        assert pipeline["processors"] == ["memory_limiter", "batch"]


def test_spans_find_their_way_from_the_services_to_the_board(compose: Configuration) -> None:
    collector, tempo = read("otel", "collector.yml"), read("otel", "tempo.yml")
    assert collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(":" + COLLECTOR.rpartition(":")[2])
    received = tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].rpartition(":")[2]
    assert collector["exporters"]["otlp/tempo"]["endpoint"] == f"tempo:{received}"
    sources = {source["uid"]: source["url"] for source in read("grafana", *_DATASOURCES)["datasources"]}
    assert sources["tempo"] == f"http://tempo:{tempo['server']['http_listen_port']}"
    assert sources["prometheus"] == "http://prometheus:9090"
    kept = {volume["target"] for volume in compose.services["tempo"]["volumes"] if volume["type"] == "volume"}
    assert all(any(place["path"].startswith(f"{target}/") for target in kept) for place in _places(tempo))


def test_health_is_asked_where_it_is_told(compose: Configuration) -> None:
    asked = {name: " ".join(compose.services[name]["healthcheck"]["test"]) for name in PARTS}
    assert read("otel", "collector.yml")["extensions"]["health_check"]["endpoint"] in asked["otel-collector"]
    assert f":{read('otel', 'tempo.yml')['server']['http_listen_port']}/ready" in asked["tempo"]


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_every_process_of_every_service_is_scraped(compose: Configuration) -> None:
    (job,) = [one for one in read("prometheus", "prometheus.yml")["scrape_configs"] if one["job_name"] == "quarry"]
    found = {name: one["port"] for one in job["dns_sd_configs"] for name in one["names"]}
    assert found == {**dict.fromkeys(SERVICES, 8000), "gateway": 9090}
    assert {one["type"] for one in job["dns_sd_configs"]} == {"A"}
    assert compose.services["gateway"]["environment"]["QUARRY_GATEWAY_METRICS_PORT"] == "9090"
    # Names are those of containers that Prometheus shares a network with.
    for name in found:
        assert "backend" in compose.services[name]["networks"]


def test_what_observes_is_observed() -> None:
    (job,) = [one for one in read("prometheus", "prometheus.yml")["scrape_configs"] if one["job_name"] != "quarry"]
    targets = {target.partition(":")[0] for one in job["static_configs"] for target in one["targets"]}
    assert targets == PARTS


def test_prometheus_finds_its_rules(compose: Configuration) -> None:
    mounted = {volume["target"] for volume in compose.services["prometheus"]["volumes"]}
    assert set(read("prometheus", "prometheus.yml")["rule_files"]) <= mounted


# --- board -----------------------------------------------------------------------------------------------------------


def test_the_board_is_what_its_code_says() -> None:
    assert overview.FILE.read_text(encoding="utf-8") == overview.rendered(), "run python -m infra.grafana.overview"


def test_the_board_is_loaded_and_is_the_first_thing_seen(compose: Configuration) -> None:
    (provider,) = read("grafana", "provisioning", "dashboards", "quarry.yml")["providers"]
    folder = Path(provider["options"]["path"])
    home = Path(compose.services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home == folder / overview.FILE.name
    mounts = {volume["target"]: volume["source"] for volume in compose.services["grafana"]["volumes"]}
    assert ROOT / mounts[str(folder)] == overview.FILE.parent
    assert mounts["/etc/grafana/provisioning"].endswith("infra/grafana/provisioning")


def test_the_board_asks_only_for_metrics_and_labels_that_there_are() -> None:
    known = exported() | {"up"}
    for title, expression in expressions():
        metrics = set(re.findall(r"\bquarry_\w+|\bup\b(?={)", expression))
        assert metrics, title
        assert metrics <= known, title
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", expression))))
        filtered = set(re.findall(r"(\w+)=~?\"", expression))
        assert grouped | filtered <= LABELS, title


def test_the_board_shows_what_an_operator_asks_for() -> None:
    shown = " ".join(expression for _, expression in expressions())
    for metric in (
        "quarry_http_requests_total",
        "quarry_http_request_seconds_bucket",
        "quarry_job_queue_age_seconds",
        "quarry_outbox_oldest_seconds",
        "quarry_stream_pending_oldest_seconds",
        "quarry_sse_open",
        "quarry_upload_to_searchable_seconds_bucket",
        "quarry_dead_letters_open",
        "quarry_relay_leading",
    ):
        assert metric in shown


def test_panels_lie_side_by_side_and_say_what_they_mean() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"].endswith((".", "?"))
    assert len({panel["id"] for panel in panels()}) == len(panels())


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(overview.FILE.read_text(encoding="utf-8"))["panels"]
    return found


def expressions() -> list[tuple[str, str]]:
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel.get("targets", ())]


_DATASOURCES = ("provisioning", "datasources", "quarry.yml")


def _places(tempo: dict[str, Any]) -> list[dict[str, str]]:
    return [tempo["storage"]["trace"]["local"], tempo["storage"]["trace"]["wal"]]


def test_every_metric_is_described_where_operators_look() -> None:
    described = set(re.findall(r"`(quarry_\w+)`", (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")))
    series = ("_bucket", "_count", "_sum")
    assert {name for name in exported() if not name.endswith(series)} == described
