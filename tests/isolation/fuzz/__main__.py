"""`uv run fuzz`: two tenants at once, fuzzed for the time given; status 1 when anything was wrong.

uv run fuzz                                            two minutes, seed 1
uv run fuzz --minutes 30 --seed 7
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

from infra.local.home import ROOT
from tests.isolation.fuzz.run import run


async def _run(minutes: float, seed: int) -> bool:
    folder = Path(tempfile.mkdtemp(prefix="quarry-fuzz-", dir="/tmp"))  # a short path: sockets live below
    passed = False
    try:
        result = await run(folder, seed=seed, seconds=minutes * 60)
        print(result)
        passed = result.passed
    finally:
        print(f"seed {seed}: {'passed' if passed else 'FAILED'}", flush=True)
        if not passed and (folder / "system.log").exists():
            handle, name = tempfile.mkstemp(prefix="quarry-fuzz-", suffix=".log")
            os.close(handle)
            shutil.copyfile(folder / "system.log", name)
            print(f"the log of the system: {name}")
        shutil.rmtree(folder)
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description="Two tenants at once, with whatever chance makes.")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    os.environ.setdefault("QUARRY_INDEXING_MODEL_DIR", str(ROOT / ".quarry" / "models"))
    return 0 if asyncio.run(_run(given.minutes, given.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
