"""Running the project's own commands."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from infra.local.home import ROOT
from infra.local.processes import Process


async def run_json(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run `python <arguments>`; gives the JSON object it printed last."""
    process = Process("command", [sys.executable, *arguments], env=environment, cwd=ROOT)
    try:
        await process.start()
        assert await process.wait() == 0, process.tail(30)
    finally:
        await process.stop()
    answer: dict[str, Any] = next(json.loads(line) for line in reversed(process.log) if line.startswith('{"'))
    return answer
