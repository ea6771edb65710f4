"""Running tests against a copy of the tree in which one guard is missing.

The copy is made once and patched in place; the tree itself is never touched. A test counts as having noticed only when
it fails as a test: one whose fixtures break, or that runs into its time limit, proves nothing and is called broken.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from xml.etree import ElementTree  # reads what pytest has just written

from infra.local.home import ROOT
from tests.isolation.mutations.model import Change, Mutation, Outcome, Verdict

LONGEST_SECONDS: Final = 240
_COPIED: Final = ("services", "shared", "infra", "tests", "pyproject.toml", "docs", "README.md", "LICENSE")
_TIMED_OUT: Final = "Timeout ("


class StaleMutation(ValueError):
    """What a mutation would replace is not in the source exactly once: the guard has moved."""


class Tree:
    """A copy of the project. One mutation at a time."""

    def __init__(self, root: Path, host: asyncio.subprocess.Process) -> None:
        self.root = root
        self._host = host
        self._clock = time.time()

    @asynccontextmanager
    async def mutated(self, mutation: Mutation) -> AsyncIterator[None]:
        """Inside the block the guard is missing."""
        before = {change.path: (self.root / change.path).read_text(encoding="utf-8") for change in mutation.changes}
        try:
            for change in mutation.changes:
                self._write(change.path, patched((self.root / change.path).read_text(encoding="utf-8"), change))
            yield
        finally:
            for path, text in before.items():
                self._write(path, text)

    def _write(self, path: str, text: str) -> None:
        """With a time of its own: Python takes a compiled file for current when second and size are the same."""
        file = self.root / path
        file.write_text(text, encoding="utf-8")
        self._clock += 10
        os.utime(file, (self._clock, self._clock))

    async def run(self, tests: Sequence[str], *, first_only: bool = True) -> list[tuple[str, str]]:
        """Run tests in the copy; (test, what happened) of those that did not pass."""
        report = self.root / "report.xml"
        report.unlink(missing_ok=True)
        stop = ["-x"] if first_only else []
        job = {
            "root": str(self.root),
            "arguments": ["-q", "--tb=line", "--assert=plain", f"--junitxml={report}", *stop, *tests],
            "seconds": LONGEST_SECONDS * (1 if first_only else 20),
        }
        stdin, stdout = self._host.stdin, self._host.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(job).encode() + b"\n")
        await stdin.drain()
        status = json.loads(await stdout.readline())["status"]
        if status is None:
            return [("pytest", "did not end")]
        if status not in (0, 1) or not report.exists():
            log = (self.root / "pytest.log").read_text(encoding="utf-8", errors="replace")
            said = [line for line in log.splitlines() if line.strip()]
            return [("pytest", f"ended with {status}: {said[-1] if said else 'silently'}")]
        return _failures(report)


def patched(text: str, change: Change) -> str:
    """Raises StaleMutation when there is not exactly one place to change."""
    if text.count(change.old) != 1:
        raise StaleMutation(f"{change.path}: {text.count(change.old)} places instead of one for {change.old[:60]!r}")
    mutated = text.replace(change.old, change.new)
    compile(mutated, change.path, "exec")
    return mutated


async def outcome_of(tree: Tree, mutation: Mutation) -> Outcome:
    """Remove the guard and run the tests that have to notice."""
    began = time.monotonic()
    async with tree.mutated(mutation):
        failures = await tree.run(mutation.tests)
    verdict, evidence = judged(failures)
    return Outcome(mutation.name, mutation.guard, verdict, evidence, time.monotonic() - began)


def judged(failures: Sequence[tuple[str, str]]) -> tuple[Verdict, str]:
    if not failures:
        return Verdict.SURVIVED, "every test passed"
    test, reason = failures[0]
    if reason == "failed":
        return Verdict.KILLED, test
    return Verdict.BROKEN, f"{test}: {reason}"


@asynccontextmanager
async def copied_tree() -> AsyncIterator[Tree]:
    """Gives a copy and the process that runs its tests; both are gone after the block."""
    folder = Path(tempfile.mkdtemp(prefix="quarry-mutations-", dir="/tmp"))  # a short path: sockets live below
    host = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("host.py")),
        cwd=folder,
        env={**_environment(), **_model_folder()},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await asyncio.to_thread(_copy, folder)
        yield Tree(folder, host)
    finally:
        if host.returncode is None:
            host.terminate()
        await host.wait()
        await asyncio.to_thread(shutil.rmtree, folder)


def _copy(folder: Path) -> None:
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)


def _failures(report: Path) -> list[tuple[str, str]]:
    found = []
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314  # pytest's own
        for kind in ("failure", "error"):
            node = case.find(kind)
            if node is None:
                continue
            message = node.get("message", "") + (node.text or "")
            reason = "failed" if kind == "failure" and _TIMED_OUT not in message else f"{kind}: {message[:500]}"
            found.append((f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}", reason))
    return found


def _environment() -> dict[str, str]:
    """Without what belongs to a test run around this one: its coverage is not of this copy."""
    # Bytecode of one mutation would pass for that of the next, when both are as long and of the same second.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST_"))}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


def _model_folder() -> dict[str, str]:
    """The embedding model that the tree's own test runs have built."""
    built = ROOT / ".pytest_cache" / "d" / "models"
    return {"QUARRY_INDEXING_MODEL_DIR": str(built)} if built.is_dir() else {}
