"""A server as docker-compose.yml describes it, read from there: tests in containers run what operators run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from infra.local.home import ROOT

COMPOSE_FILE: Final = ROOT / "docker-compose.yml"
_VARIABLE = re.compile(r"\$\{\w+:?-([^}]*)\}")


@dataclass(frozen=True, slots=True)
class Composed:
    """Image and start of one service; variables count as their defaults, what the image decides is empty."""

    image: str
    user: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: Mapping[str, str]


@cache
def composed(service: str, file: Path = COMPOSE_FILE) -> Composed:
    """One of the servers that have an image of somebody else's making.

    Raises:
        LookupError: the file names no image for it.
    """
    found: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))["services"].get(service, {})
    if "image" not in found:
        raise LookupError(f"{file.name} names no image for {service}")
    return Composed(
        image=_plain(found["image"]),
        user=_plain(found.get("user", "")),
        entrypoint=tuple(_plain(part) for part in found.get("entrypoint", ())),
        command=tuple(_plain(part) for part in found.get("command", ())),
        environment={name: _plain(value) for name, value in found.get("environment", {}).items()},
    )


def _plain(value: object) -> str:
    return _VARIABLE.sub(r"\1", str(value))
