"""docker-compose.yml as a configuration to look at, read in two ways.

`as_written` needs no Docker: the files themselves, with their anchors, includes and variables (as their defaults, or as
given). `as_resolved` is what Compose makes of them. Both have Compose's normal form where tests look.
"""

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from infra.local.home import ROOT

COMPOSE_FILE: Final = ROOT / "docker-compose.yml"
EMBEDDED_VECTORS: Final = ROOT / "infra" / "docker" / "compose.embedded-vectors.yml"
BLOBS_IN_S3: Final = ROOT / "infra" / "docker" / "compose.s3.yml"
# ${NAME:-default}, whose default may hold one more of its kind.
_VARIABLE: Final = re.compile(r"(?<!\$)\$\{(\w+):-((?:[^{}]|\$\{[^{}]*\})*)\}")

Section = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Configuration:
    services: Mapping[str, Section]
    networks: Mapping[str, Section]
    volumes: Mapping[str, Section]
    secrets: Mapping[str, Section]
    warnings: str = ""


def as_written(environ: Mapping[str, str]) -> Configuration:
    text = COMPOSE_FILE.read_text(encoding="utf-8")
    own: Section = yaml.safe_load(_interpolated(text, environ))
    included = [(ROOT / item["path"]).read_text(encoding="utf-8") for item in own.get("include", ())]
    documents = [own, *(yaml.safe_load(_interpolated(text, environ)) for text in included)]
    services = {name: _normal(service) for name, service in _merged(documents, "services").items()}
    networks, volumes, files = (_merged(documents, kind) for kind in ("networks", "volumes", "secrets"))
    return Configuration(services, networks, volumes, files)


def as_resolved(environ: Mapping[str, str], *files: Path) -> Configuration:
    """Raises CalledProcessError: Compose refuses the files."""
    done = compose(environ, *files, command=("--profile", "*", "config", "--format", "json"))
    found = json.loads(done.stdout)
    return Configuration(
        found["services"],
        _with_empty(found["networks"]),
        _with_empty(found["volumes"]),
        found["secrets"],
        warnings=done.stderr,
    )


def compose(
    environ: Mapping[str, str], *files: Path, command: tuple[str, ...], within: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Run `docker compose` on these files, or on docker-compose.yml."""
    named = [part for file in files or (COMPOSE_FILE,) for part in ("-f", str(file))]
    return subprocess.run(
        ["docker", "compose", *named, *command],
        cwd=ROOT,
        env={**os.environ, **environ},
        check=True,
        capture_output=True,
        text=True,
        timeout=within,
    )


def _interpolated(text: str, environ: Mapping[str, str]) -> str:
    def value(match: "re.Match[str]") -> str:
        return environ.get(match[1]) or _VARIABLE.sub(value, match[2])

    return _VARIABLE.sub(value, text)


def _normal(service: Section) -> Section:
    normal = dict(service)
    normal["environment"] = {name: str(value) for name, value in (service.get("environment") or {}).items()}
    normal["secrets"] = [
        {"source": secret, "target": f"/run/secrets/{secret}"} if isinstance(secret, str) else secret
        for secret in service.get("secrets", ())
    ]
    normal["networks"] = dict.fromkeys(service.get("networks", ()))
    normal["ports"] = [_port(port) for port in service.get("ports", ())]
    normal["volumes"] = [_volume(volume) for volume in service.get("volumes", ())]
    return normal


def _port(port: str) -> Section:
    address, published, target = port.split(":")
    return {"host_ip": address, "published": published, "target": int(target)}


def _volume(volume: str | Section) -> Section:
    if isinstance(volume, dict):
        return volume
    source, target, *_mode = volume.split(":")
    kind = "bind" if source[0] in "./~" else "volume"
    return {"type": kind, "source": source, "target": target, "read_only": "ro" in _mode}


def _merged(documents: Sequence[Section], kind: str) -> dict[str, Section]:
    return _with_empty({name: item for document in documents for name, item in (document.get(kind) or {}).items()})


def _with_empty(items: Mapping[str, Section | None]) -> dict[str, Section]:
    return {name: item or {} for name, item in items.items()}
