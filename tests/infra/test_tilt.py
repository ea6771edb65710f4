"""The Tiltfile, executed: its resources are those of docker-compose.yml, and a change restarts whom it concerns."""

import re
import shlex
import tomllib
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any

import pytest
import starlark
import yaml

from infra.docker.secrets import DEV_ISSUER
from infra.local.home import ROOT
from shared.migrations import SERVICES_WITH_SCHEMA
from shared.topology import SERVICES
from tests.infra.compose_files import COMPOSE_FILE, Configuration, as_resolved, as_written
from tests.infra.tilt import MANUAL, Tilt

OVERRIDE = ROOT / "tilt" / "compose.yml"
CONTAINERS = {*SERVICES, "indexing-worker"}
GROUPS = {
    "servers": {"postgres", "redis", "qdrant", "migrate"},
    "services": CONTAINERS,
    "development": {"oidc", "oidc-loopback"},
    "observability": {"otel-collector", "tempo", "prometheus", "grafana"},
}


@pytest.fixture(scope="module")
def tilt() -> Tilt:
    return Tilt(options={"observability": True}).execute()


@pytest.fixture(scope="module")
def written() -> Configuration:
    return as_written({})


def override() -> dict[str, Any]:
    class Loader(yaml.SafeLoader):
        """Knows Compose's `!reset`, which takes away what the files before have."""

    Loader.add_constructor("!reset", lambda _loader, _node: "reset")
    services: dict[str, Any] = yaml.load(OVERRIDE.read_text(encoding="utf-8"), Loader)["services"]  # noqa: S506
    return services


# --- resources -------------------------------------------------------------------------------------------------------


def test_every_container_of_the_compose_file_is_a_resource_in_its_group(tilt: Tilt, written: Configuration) -> None:
    assert tilt.containers.keys() == written.services.keys()
    shown: dict[str, set[str]] = {}
    for name, container in tilt.containers.items():
        (label,) = container["labels"]
        shown.setdefault(label, set()).add(name)
    assert shown == GROUPS


def test_without_being_asked_nothing_is_observed() -> None:
    plain = Tilt().execute()
    assert plain.compose["profiles"] == ["dev"]
    assert plain.compose["configPaths"] == ["docker-compose.yml", "tilt/compose.yml"]
    assert plain.containers.keys().isdisjoint(GROUPS["observability"])
    assert "QUARRY_OTLP_ENDPOINT" not in plain.environ


def test_the_observed_services_send_their_spans_to_the_collector(tilt: Tilt) -> None:
    assert tilt.compose["profiles"] == ["dev", "observability"]
    assert tilt.environ["QUARRY_OTLP_ENDPOINT"] == "http://otel-collector:4318"


def test_resources_wait_for_what_their_containers_wait_for(tilt: Tilt, written: Configuration) -> None:
    for name, container in tilt.containers.items():
        needs = set(container["resource_deps"]) - set(tilt.commands)
        assert needs == set(written.services[name].get("depends_on", ())), name
    for server in ("postgres", "redis", "qdrant"):
        assert tilt.containers[server]["resource_deps"] == ["secrets"]


def test_secrets_are_made_first_and_with_the_development_sign_in(tilt: Tilt) -> None:
    assert tilt.commands["secrets"]["cmd"] == "uv run secrets --dev"
    assert "trigger_mode" not in tilt.commands["secrets"]
    assert DEV_ISSUER.startswith("http://localhost")


def test_links_lead_to_the_ports_in_use() -> None:
    there = Tilt(
        options={"observability": True}, environ={"QUARRY_GATEWAY_PORT": "9001", "QUARRY_GRAFANA_PORT": "9002"}
    )
    links = {name: container["links"] for name, container in there.execute().containers.items() if container["links"]}
    assert {name: [link["url"] for link in found] for name, found in links.items()} == {
        "gateway": ["http://localhost:9001/docs"],
        "grafana": ["http://localhost:9002"],
    }


def test_what_must_not_run_by_itself_is_a_button(tilt: Tilt) -> None:
    buttons = {name: command for name, command in tilt.commands.items() if name != "secrets"}
    assert {"test", "lint", "sign-in again"} < set(buttons)
    assert {f"dead letters of {service}" for service in SERVICES_WITH_SCHEMA} < set(buttons)
    for button in buttons.values():
        assert (button["auto_init"], button["trigger_mode"], button["labels"]) == (False, MANUAL, ["development"])
    # Migrations run once at the start, and then when their resource is triggered; so does what signs anyone in.
    for name in ("migrate", "oidc", "oidc-loopback"):
        assert tilt.containers[name]["trigger_mode"] == MANUAL


def test_commands_are_those_of_the_project(tilt: Tilt, written: Configuration) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    for command in (shlex.split(part) for one in tilt.commands.values() for part in one["cmd"].split("&&")):
        if command[:2] == ["uv", "run"]:
            assert command[2] in scripts
            continue
        assert command[:2] == ["docker", "compose"]
        assert set(command) & set(written.services)
        if "-m" in command:
            module = command[command.index("-m") + 1]
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


# --- images ----------------------------------------------------------------------------------------------------------


def test_containers_run_the_images_that_tilt_builds(tilt: Tilt, written: Configuration) -> None:
    images = {name: service["image"] for name, service in override().items()}
    assert set(images.values()) == set(tilt.images)
    assert images == {
        **{name: f"quarry-{name.removesuffix('-worker')}" for name in CONTAINERS},
        **dict.fromkeys(("migrate", "oidc-loopback"), "quarry"),
    }
    # Tilt takes an image from one of the two, never from both.
    built = {name for name, service in written.services.items() if "build" in service and "profiles" not in service}
    assert {name for name, service in override().items() if service.get("build") == "reset"} == built


def test_only_containers_with_live_update_can_be_written_to(tilt: Tilt) -> None:
    writable = {name for name, service in override().items() if service.get("read_only") is False}
    assert writable == CONTAINERS
    for name in override():
        assert set(override()[name]) <= {"image", "read_only", "build"}
    live = {ref for ref, image in tilt.images.items() if image["live_update"]}
    assert live == {f"quarry-{service}" for service in SERVICES}


def test_the_live_image_is_that_of_the_services_with_its_source_given_to_its_account(tilt: Tilt) -> None:
    dockerfile = (ROOT / "infra" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    for image in tilt.images.values():
        assert image["dockerfile_contents"].startswith(dockerfile)
        assert f"AS {image['target']}\n" in image["dockerfile_contents"]
        assert image["target"] == ("live" if image["live_update"] else "runtime")
    added = next(iter(tilt.images.values()))["dockerfile_contents"].removeprefix(dockerfile)
    lines = [line for line in added.splitlines() if line and not line.startswith("#")]
    (user,) = re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)
    assert lines[0] == "FROM runtime AS live"
    assert lines[-1] == f"USER {user}"
    assert f"RUN chown -R {user} /app" in lines


def test_an_image_has_all_that_its_building_takes_and_no_other_service(tilt: Tilt) -> None:
    dockerfile = (ROOT / "infra" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    stages = dockerfile.partition("AS development-packages")[0]
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", stages, re.MULTILINE)
    for ref, image in tilt.images.items():
        for path in {source for sources in copied for source in sources.split()} - {"services"}:
            assert goes_in(image, path), (ref, path)
        for service in SERVICES:
            expected = ref in ("quarry", f"quarry-{service}")
            assert goes_in(image, f"services/{service}/main.py") is expected, (ref, service)
            assert goes_in(image, f"services/{service}/migrations/env.py") is expected, (ref, service)
        assert not goes_in(image, "tests/conftest.py")


# --- live update -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "restarted", "rebuilt"),
    [
        ("services/projects/documents/service.py", {"projects"}, set()),
        ("services/indexing/search/service.py", {"indexing"}, set()),
        ("services/gateway/proxy/app.py", {"gateway"}, set()),
        ("shared/outbox.py", set(SERVICES), set()),
        ("infra/serve.py", set(SERVICES), set()),
        ("infra/requirements.lock", set(), set(SERVICES)),
        ("services/indexing/embedders/minilm.py", set(), set(SERVICES)),
        ("services/__init__.py", set(), set(SERVICES)),
        ("tests/conftest.py", set(), set()),
        ("docs/operating.md", set(), set()),
    ],
)
def test_a_change_restarts_whom_it_concerns(tilt: Tilt, changed: str, restarted: set[str], rebuilt: set[str]) -> None:
    assert (ROOT / changed).is_file()
    outcome: dict[str, set[str]] = {"restarted": set(), "rebuilt": set()}
    for service in SERVICES:
        image = tilt.images[f"quarry-{service}"]
        if goes_in(image, changed):
            falls_back = matches(changed, paths_of(image, "fall_back_on", "files"))
            synced = matches(changed, paths_of(image, "sync", "local_path"))
            outcome["restarted" if synced and not falls_back else "rebuilt"].add(service)
    assert outcome == {"restarted": restarted, "rebuilt": rebuilt}


def test_files_arrive_where_the_image_has_them_and_the_process_begins_anew(tilt: Tilt) -> None:
    (workdir,) = re.findall(r"^WORKDIR (\S+)$", (ROOT / "infra" / "docker" / "Dockerfile").read_text(), re.MULTILINE)
    for service in SERVICES:
        steps = tilt.images[f"quarry-{service}"]["live_update"]
        synced = {step["local_path"]: step["remote_path"] for step in steps if step["step"] == "sync"}
        assert synced == {path: f"{workdir}/{path}" for path in (f"services/{service}", "shared", "infra")}
        assert steps[-1]["step"] == "restart_container"


# --- as Tilt would see it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("k8s_yaml('x')", "Variable `k8s_yaml` not found"),
        ("docker_compose('docker-compose.yml', profile=['dev'])", "got an unexpected keyword argument 'profile'"),
        ("docker_build('quarry')", "missing a required argument: 'context'"),
        ("docker_build('quarry', '.', live_update=[restart_container(), sync('shared', '/app/shared')])", "order"),
        ("docker_build('quarry', '.', live_update=[sync('shared', 'app')])", "app is not absolute"),
        ("docker_build('quarry', '.', live_update=[fall_back_on('nowhere.lock')])", "nowhere.lock does not exist"),
        ("docker_build('quarry', '.', dockerfile='a', dockerfile_contents='b')", "either dockerfile or"),
        ("docker_build('quarry', '.', entrypoint='sh')", "knows no entrypoint"),
        ("[docker_build('quarry', '.') for _ in range(2)]", "is built twice"),
        ("dc_resource('projects')", "there is no docker_compose"),
        ("[docker_compose(['docker-compose.yml']) for _ in range(2)]", "declared already"),
        ("local_resource('a', 'true', labels=['not a label'])", "is no label"),
        ("local_resource('a', 'true', trigger_mode='by hand')", "is no trigger mode"),
        ("[local_resource('a', 'true') for _ in range(2)]", "is there twice"),
        ("load('./tilt/resources.star', 'nothing')", "nothing"),
        ("config.define_string('x')", "define_string"),
        ("read_file('nowhere')", "nowhere does not exist"),
    ],
)
def test_what_tilt_refuses_is_refused(text: str, why: str) -> None:
    with pytest.raises(starlark.StarlarkError, match=re.escape(why)):
        Tilt().execute(text)


def test_an_option_that_is_not_defined_is_refused() -> None:
    with pytest.raises(starlark.StarlarkError, match="unknown"):
        Tilt(options={"observabillity": True}).execute()


@pytest.mark.containers
def test_compose_takes_the_files_that_tilt_gives_it(tilt: Tilt) -> None:
    files = [COMPOSE_FILE, *(ROOT / path for path in tilt.compose["configPaths"][1:])]
    found = as_resolved({}, *files)
    assert found.warnings == ""
    for name in CONTAINERS:
        assert not found.services[name].get("read_only")
    assert "build" not in found.services["migrate"]


def goes_in(image: dict[str, Any], path: str) -> bool:
    """Whether a file is part of the image's context, by `only` and then `ignore`, whose last match counts."""
    if not matches(path, image["only"]):
        return False
    kept = True
    for pattern in image["ignore"]:
        target = pattern.removeprefix("!")
        if fnmatch(path, target) or (pattern.startswith("!") and matches(path, [target])):
            kept = pattern.startswith("!")
    return kept


def matches(path: str, places: Iterable[str]) -> bool:
    return any(PurePosixPath(path).is_relative_to(place) for place in places)


def paths_of(image: dict[str, Any], step: str, parameter: str) -> list[str]:
    found = [one[parameter] for one in image["live_update"] if one["step"] == step]
    return [path for item in found for path in (item if isinstance(item, list) else [item])]
