"""The whole system in containers, on a real engine: how it starts, what its clients see, how it ends and starts again.

The vector store is the embedded one: Qdrant's image is not everywhere.
"""

import json
import os
import re
import shlex
import subprocess
import sys
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
from tests.infra.engine import IMAGE, REVISION, VERSION, build_image, docker
from tests.infra.test_compose import QUARRY, secret_words
from tests.support.remote_system import BOOTSTRAP_COMMAND, SYSTEM_URL

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]


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
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    build_image()
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


def test_flows_of_clients_hold_through_the_published_port(system: Composed) -> None:
    """The same tests that run on the embedded system: uploads of every kind, their events, searches, the sign-in."""
    files = [part for file in (COMPOSE_FILE, EMBEDDED_VECTORS) for part in ("-f", str(file))]
    bootstrap = ("exec", "--no-TTY", "identity", "python", "-m", "services.identity.bootstrap")
    given = {
        SYSTEM_URL: f"http://localhost:{system.port}",
        BOOTSTRAP_COMMAND: shlex.join(["docker", "compose", *files, *bootstrap]),
    }
    flows = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "system", "tests/flows"],
        cwd=ROOT,
        env={**os.environ, **system.environ, **given},
        check=False,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert flows.returncode == 0, flows.stdout
    passed = re.search(r"(\d+) passed", flows.stdout)
    assert passed and int(passed[1]) >= 10 and "skipped" not in flows.stdout, flows.stdout


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
