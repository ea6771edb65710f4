"""The system in containers keeps its promises: what runs how, who reaches whom, and where no secret is.

Asserted of docker-compose.yml as it is written, and, where there is an engine, of what Compose makes of it.
"""

import json
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.docker import secrets
from infra.local.home import ROOT
from services.projects.settings import ProjectsSettings
from shared.migrations import SERVICES_WITH_SCHEMA
from shared.topology import SERVICES
from tests.infra.compose_files import (
    BLOBS_IN_S3,
    COMPOSE_FILE,
    EMBEDDED_VECTORS,
    Configuration,
    as_resolved,
    as_written,
    compose,
)

SERVERS = {"postgres", "redis", "qdrant"}
QUARRY = {"identity", "projects", "indexing", "indexing-worker", "notifier", "gateway"}
DEVELOPMENT = {"oidc", "oidc-loopback"}
ONE_SHOT = {"migrate"}
# On loopback only, and only with its profile.
PUBLISHED_BY_PROFILES = {"oidc": "dev"}


@pytest.fixture(scope="module")
def secrets_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    secrets.write(folder, dev_issuer=secrets.DEV_ISSUER)
    return folder


@pytest.fixture(scope="module")
def environ(secrets_folder: Path) -> dict[str, str]:
    return {"QUARRY_SECRETS": str(secrets_folder)}


@pytest.fixture(
    scope="module",
    params=[as_written, pytest.param(as_resolved, marks=pytest.mark.containers)],
    ids=["file", "resolved"],
)
def configuration(request: pytest.FixtureRequest, environ: dict[str, str]) -> Configuration:
    read: Callable[[Mapping[str, str]], Configuration] = request.param
    return read(environ)


def limits(service: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = service["deploy"]["resources"]["limits"]
    return found


@pytest.mark.containers
def test_compose_has_nothing_to_complain_about(environ: dict[str, str]) -> None:
    assert as_resolved(environ).warnings == ""
    assert as_resolved(environ, COMPOSE_FILE, EMBEDDED_VECTORS).warnings == ""


def test_every_part_of_the_architecture_is_there(configuration: Configuration) -> None:
    without_profile = {name for name, service in configuration.services.items() if not service.get("profiles")}
    assert without_profile == SERVERS | QUARRY | ONE_SHOT
    assert {
        name for name, service in configuration.services.items() if service.get("profiles") == ["dev"]
    } == DEVELOPMENT
    assert set(SERVICES) < QUARRY
    for name in QUARRY:
        assert configuration.services[name]["command"][0] == name.removesuffix("-worker")


def test_indexing_is_split_by_roles(configuration: Configuration) -> None:
    roles = [configuration.services[name]["command"][-1] for name in ("indexing", "indexing-worker")]
    assert sorted(",".join(roles).split(",")) == ["events", "http", "jobs"]


def test_servers_are_of_the_versions_that_quarry_asks_for(configuration: Configuration) -> None:
    images = {name: configuration.services[name]["image"] for name in SERVERS}
    assert images["postgres"] == "postgres:18"
    assert images["redis"] == "redis:8.2"
    version = images["qdrant"].partition(":v")[2].partition("-")[0]
    assert tuple(map(int, version.split("."))) >= (1, 15, 4)


def test_one_image_runs_every_service_and_is_built_once(configuration: Configuration) -> None:
    assert {configuration.services[name]["image"] for name in QUARRY | ONE_SHOT} == {"quarry:dev"}
    built = [name for name in QUARRY | ONE_SHOT if "build" in configuration.services[name]]
    assert built == ["migrate"]


def test_nothing_runs_as_root_or_may_become_it(configuration: Configuration) -> None:
    for name, service in configuration.services.items():
        assert str(service["user"]).partition(":")[0] not in ("", "0", "root"), name
        assert service["cap_drop"] == ["ALL"], name
        assert not service.get("cap_add"), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert not {"pid", "ipc", "userns_mode", "devices"} & set(service), name


def test_nothing_can_write_where_it_should_not(configuration: Configuration) -> None:
    for name, service in configuration.services.items():
        assert service["read_only"] is True, name
        for volume in service.get("volumes", ()):
            assert volume["type"] == "volume" or volume.get("read_only"), (name, volume)
            assert "docker.sock" not in str(volume), name


def test_everything_is_limited_watched_and_started_again(configuration: Configuration) -> None:
    for name, service in configuration.services.items():
        assert {"cpus", "memory", "pids"} <= set(limits(service)), name
        assert {"max-size", "max-file"} <= set(service["logging"]["options"]), name
        assert "stop_grace_period" in service, name
        if name in ONE_SHOT:
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        assert not service["healthcheck"].get("disable"), name
        assert {"test", "start_interval", "start_period"} <= set(service["healthcheck"]), name


def test_only_the_gateway_is_published_and_on_loopback_unless_told_otherwise(configuration: Configuration) -> None:
    published = {name: service["ports"] for name, service in configuration.services.items() if service.get("ports")}
    (port,) = published.pop("gateway")
    assert (port["host_ip"], str(port["published"]), port["target"]) == ("127.0.0.1", "8080", 8080)
    for name, ports in published.items():
        assert configuration.services[name]["profiles"] == [PUBLISHED_BY_PROFILES[name]]
        assert {item["host_ip"] for item in ports} == {"127.0.0.1"}


def test_networks_are_private_and_the_gateway_cannot_reach_the_data(configuration: Configuration) -> None:
    on: dict[str, set[str]] = {}
    for name, service in configuration.services.items():
        for network in service.get("networks") or ():
            on.setdefault(network, set()).add(name)
    ways_out = {name for name, network in configuration.networks.items() if not network.get("internal")}
    assert {"backend", "data"}.isdisjoint(ways_out)
    exposed = {name for network in ways_out for name in on[network]} & (SERVERS | QUARRY | ONE_SHOT)
    assert exposed == {"gateway", "identity"}
    assert on["edge"] == {"gateway"}
    assert "gateway" not in on["data"]
    assert on["data"] & SERVERS == {"postgres", "qdrant"}


def test_any_number_of_each_can_run(configuration: Configuration) -> None:
    for name in QUARRY - {"gateway"}:
        service = configuration.services[name]
        assert not service.get("container_name")
        assert not service.get("ports")
        assert not service.get("hostname")


def test_services_wait_for_the_migrations_and_for_each_other(configuration: Configuration) -> None:
    for name in QUARRY - {"gateway"}:
        needs = configuration.services[name]["depends_on"]
        assert needs["migrate"]["condition"] == "service_completed_successfully"
        assert {needs[server]["condition"] for server in ("postgres", "redis")} == {"service_healthy"}
    assert set(configuration.services["gateway"]["depends_on"]) == {
        "redis",
        "identity",
        "projects",
        "indexing",
        "notifier",
    }
    assert configuration.services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_each_service_is_given_its_own_secrets_and_no_others(configuration: Configuration) -> None:
    for name in QUARRY:
        service = name.removesuffix("-worker")
        given = {secret["source"] for secret in configuration.services[name]["secrets"]}
        expected = {f"{service}_redis_url", f"{service}_secret"}
        if service in SERVICES_WITH_SCHEMA:
            expected |= {f"{service}_database_url", f"{service}_system_database_url"}
        if service == "identity":
            expected |= {"identity_providers", "identity_service_secrets", "identity_encryption_key"}
        if service == "indexing":
            expected |= {"qdrant_api_key"}
        assert given == expected, name
        files = {value for key, value in configuration.services[name]["environment"].items() if key.endswith("_FILE")}
        assert files == {f"/run/secrets/{secret}" for secret in expected}, name


def test_every_secret_is_a_file_that_the_command_makes(configuration: Configuration, secrets_folder: Path) -> None:
    for name, secret in configuration.secrets.items():
        assert Path(secret["file"]) == secrets_folder / name
        assert stat.S_IMODE((secrets_folder / name).stat().st_mode) == 0o444
    used = {secret["source"] for service in configuration.services.values() for secret in service.get("secrets") or ()}
    assert used == set(configuration.secrets)


def test_no_secret_is_in_the_configuration(configuration: Configuration, secrets_folder: Path) -> None:
    words = secret_words(secrets_folder)
    text = json.dumps([dict(part) for part in (configuration.services, configuration.secrets, configuration.volumes)])
    assert [word for word in words if word in text] == []
    for name, service in configuration.services.items():
        for variable in service.get("environment") or ():
            telling = any(part in variable for part in ("PASSWORD", "SECRET", "KEY", "DATABASE_URL", "REDIS_URL"))
            assert not telling or variable.endswith("_FILE"), (name, variable)


def secret_words(folder: Path) -> set[str]:
    """Every value that `secrets` has made, and every password and key inside of one."""
    texts = {path.name: path.read_text(encoding="utf-8").strip() for path in folder.iterdir()}
    derived = secrets.derive({name: texts[name] for name in secrets.made()})
    passwords = json.loads(derived["database_passwords"]).values()
    services = json.loads(derived["identity_service_secrets"]).values()
    redis = {texts[f"{user}_redis_url"].split(":")[2].partition("@")[0] for user in (*SERVICES, "operator")}
    provider = {item["client_secret"] for item in json.loads(texts["identity_providers"])}
    return {*texts.values(), *passwords, *services, *redis, *provider}


def test_the_embedded_engine_takes_the_place_of_the_server() -> None:
    text = EMBEDDED_VECTORS.read_text(encoding="utf-8")
    assert "qdrant: !reset null" in text
    assert text.count("QUARRY_INDEXING_QDRANT_URL: !reset null") == 2


@pytest.mark.containers
def test_with_the_embedded_engine_nothing_asks_for_qdrant(environ: dict[str, str]) -> None:
    found = as_resolved(environ, COMPOSE_FILE, EMBEDDED_VECTORS)
    assert "qdrant" not in found.services
    assert "qdrant" not in found.volumes
    for name, service in found.services.items():
        assert not any("QDRANT" in variable for variable in service.get("environment") or ()), name
        assert "qdrant" not in (service.get("depends_on") or ()), name
    listens = found.services["indexing"]["environment"]["QUARRY_INDEXING_VECTORS_LISTEN"]
    assert found.services["indexing-worker"]["environment"]["QUARRY_INDEXING_VECTORS_SOCKET"] == listens
    shared_by = [name for name, service in found.services.items() if "sockets" in str(service.get("volumes"))]
    assert sorted(shared_by) == ["indexing", "indexing-worker"]


def test_a_bucket_takes_the_place_of_the_volume() -> None:
    text = BLOBS_IN_S3.read_text(encoding="utf-8")
    assert "QUARRY_PROJECTS_BLOB_ROOT: !reset null" in text
    assert "volumes: !reset []" in text
    assert "blobs: !reset null" in text
    named = set(re.findall(r"QUARRY_PROJECTS_([A-Z0-9_]+?)(?:_FILE)?:", text))
    assert {name.lower() for name in named} <= set(ProjectsSettings.model_fields)


@pytest.mark.containers
def test_with_a_bucket_nothing_needs_the_volume(environ: dict[str, str]) -> None:
    found = as_resolved({**environ, "QUARRY_S3_URL": "https://s3.example.com"}, COMPOSE_FILE, BLOBS_IN_S3)
    assert found.warnings == ""
    assert "blobs" not in found.volumes
    projects = found.services["projects"]
    assert not projects.get("volumes")
    assert "QUARRY_PROJECTS_BLOB_ROOT" not in projects["environment"]
    assert projects["environment"]["QUARRY_PROJECTS_S3_URL"] == "https://s3.example.com"
    assert set(projects["networks"]) == {"backend", "data", "egress"}
    assert {"s3_access_key_id", "s3_secret_access_key"} <= {secret["source"] for secret in projects["secrets"]}


@pytest.mark.containers
def test_replicas_and_places_can_be_chosen(environ: dict[str, str]) -> None:
    given = {**environ, "QUARRY_GATEWAY_BIND": "127.0.0.2", "QUARRY_GATEWAY_PORT": "9000", "QUARRY_VERSION": "1.2"}
    found = as_resolved(given)
    (port,) = found.services["gateway"]["ports"]
    assert (port["host_ip"], port["published"]) == ("127.0.0.2", "9000")
    assert found.services["identity"]["environment"]["QUARRY_IDENTITY_PUBLIC_URL"] == "http://localhost:9000"
    assert found.services["projects"]["image"] == "quarry:1.2"
    scaled = compose(environ, command=("up", "--dry-run", "--no-build", "--scale", "projects=2", "projects"))
    assert "projects-2" in scaled.stderr


def test_nothing_of_a_checkout_but_its_source_goes_into_an_image() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert patterns[0] == "*"
    assert {line for line in patterns if line.startswith("!")} == {"!services", "!shared", "!infra"}
