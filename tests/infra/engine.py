"""A Docker engine to run commands on, and the image that is tested there."""

import subprocess
from typing import Final

from infra.local.home import ROOT

VERSION: Final = "test"
REVISION: Final = "abc"
IMAGE: Final = f"quarry:{VERSION}"


def docker(*arguments: str, check: bool = True, within: float = 120) -> "subprocess.CompletedProcess[str]":
    """`docker` with these arguments, for at most so many seconds; unless told otherwise it has to succeed."""
    done = subprocess.run(["docker", *arguments], cwd=ROOT, check=False, capture_output=True, text=True, timeout=within)
    assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}:\n{done.stderr}"
    return done


def build_image() -> str:
    arguments = ("--build-arg", f"VERSION={VERSION}", "--build-arg", f"REVISION={REVISION}")
    docker("build", "--quiet", "-f", "infra/docker/Dockerfile", *arguments, "-t", IMAGE, ".", within=550)
    return IMAGE
