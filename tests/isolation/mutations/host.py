"""A process that has imported what every test needs and forks for each run: imports are most of what a run costs.

Reads one JSON object a line from standard input, `{"root", "arguments", "seconds"}`, runs pytest with the arguments in
that folder and answers `{"status"}`: pytest's own, or null when it did not end in time. Nothing of the project is
imported here, since each run imports its own copy.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import time
from typing import Final

PRELOADED: Final = (
    "pytest",
    "_pytest.junitxml",
    "pytest_asyncio.plugin",
    "pytest_timeout",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.dialects.postgresql",
    "alembic.command",
    "asyncpg",
    "fastapi",
    "pydantic_settings",
    "redis.asyncio",
    "faststream.redis",
    "aiohttp",
    "httpx",
    "uvicorn",
    "joserfc.jwt",
    "structlog",
    "hypothesis",
    "orjson",
    "opentelemetry.sdk.trace.export",
    "prometheus_client",
)


def main() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps({"status": _run(job["root"], job["arguments"], job["seconds"])}), flush=True)


def _run(root: str, arguments: list[str], seconds: float) -> int | None:
    child = os.fork()
    if child == 0:
        _become_pytest(root, arguments)
    ended = os.pidfd_open(child)
    try:
        ready, _, _ = select.select([ended], [], [], seconds)
    finally:
        os.close(ended)
    if not ready:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if ready else None


def _become_pytest(root: str, arguments: list[str]) -> None:
    import pytest  # noqa: PLC0415  # imported by then; the process that only forks has no use for it

    os.setsid()
    os.chdir(root)
    os.environ["PYTHONPATH"] = root
    sys.path[:0] = [root]
    with open("pytest.log", "wb", buffering=0) as log:  # noqa: PTH123  # a descriptor is what is wanted
        os.write(log.fileno(), f"\n{time.strftime('%X')} {arguments}\n".encode())
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os._exit(int(pytest.main(arguments)))


if __name__ == "__main__":
    main()
